//! The load commands against a deployment whose gateways have certificates of an authority of its own.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::path::Path;
use std::process::Output;

use testbed::certificates::Authority;
use testbed::stack::{Builder, System};
use tokio::process::Command;

/// A deployment with TLS and a certificate for localhost, and the file of its authority.
async fn deployment(folder: &Path) -> (System, String) {
    let authority = Authority::new("the load tool trusts this one").unwrap();
    let files = authority.write(&authority.issue(&["localhost"]).unwrap(), folder).unwrap();
    let builder = Builder::new().gateways(1).workers(1).unlimited();
    let builder = builder.set("IM__TLS__CERT", files.cert.display()).set("IM__TLS__KEY", files.key.display());
    let builder = builder.set("IM__GROUPS__AUTO_CREATE", "false");
    (builder.for_test().await.unwrap(), files.ca.display().to_string())
}

async fn loadtest(arguments: &str) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments.split_whitespace()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output, text.concat())
}

/// The commands, whose groups are made over https and whose messages go over wss.
#[tokio::test(flavor = "multi_thread")]
async fn loads_run_over_tls_with_the_authority_of_the_deployment() {
    let folder = tempfile::tempdir().unwrap();
    let (mut system, ca) = deployment(folder.path()).await;
    let port = system.gateway(0).port();
    let place = format!("--gateway wss://localhost:{port}/ws --ca {ca}");
    for (command, part) in [
        ("burst --messages 200 --groups 2 --senders 2 --listeners 1", "heard      200 of 200"),
        ("scenario private small-groups --scale 0.01", "promises kept"),
        ("overload --connections 8 --factor 1.5 --seconds 2", "promises   kept"),
    ] {
        let (output, text) = loadtest(&format!("{command} {place}")).await;
        assert!(text.contains(part), "{command}: {:?}\n{text}", output.status);
    }
    let (output, text) =
        loadtest(&format!("burst --messages 20 --gateway https://localhost:{port} --ca {ca}")).await;
    assert_eq!(output.status.code(), Some(0), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_ends_the_command_with_the_option_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut system, ca) = deployment(folder.path()).await;
    let port = system.gateway(0).port();
    let other = folder.path().join("other.pem");
    std::fs::write(&other, Authority::new("another one").unwrap().pem()).unwrap();
    let (other, empty) = (other.display(), folder.path().join("key.pem").display().to_string());
    for (place, part) in [
        (format!("wss://localhost:{port}/ws --ca {other}"), "is not signed by an authority in --ca"),
        (format!("wss://localhost:{port}/ws"), "give --ca FILE"),
        (format!("wss://127.0.0.1:{port}/ws --ca {ca}"), "is for other names"),
        (format!("ws://localhost:{port}/ws"), "does it use TLS (wss://)?"),
        (format!("wss://localhost:{port}/ws --ca /nowhere.pem"), "--ca /nowhere.pem"),
        (format!("wss://localhost:{port}/ws --ca {empty}"), "has no certificate"),
    ] {
        let (output, text) = loadtest(&format!("burst --messages 10 --gateway {place}")).await;
        assert_eq!(output.status.code(), Some(4), "{place}: {text}");
        assert!(text.contains(part), "{place}: {text}");
    }
    let (output, text) =
        loadtest(&format!("idle --connections 10 --gateway wss://localhost:{port}/ws --ca {ca}")).await;
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("idle connections have no TLS"), "{text}");
}
