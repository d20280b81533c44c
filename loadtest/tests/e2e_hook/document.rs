//! The example of docs/hook.md, as it stands there.

use std::process::{Child, Command, Stdio};

use serde_json::json;
use testbed::stack::{Builder, wait_for};
use tokio::net::TcpStream;

use crate::server::SECRET;
use crate::{CHAT, TIMEOUT, connect, send, text};

/// The first block of that language.
fn block(language: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hook.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_document_decides() {
    let is_there = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        assert!(std::env::var_os("IM_ALL_TOOLS").is_none(), "python3 is missing");
        println!("SKIPPED: the example of docs/hook.md is not tested without python3");
        return;
    }
    let example = block("python");
    let lines = example.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 25, "{lines} lines");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut python = Command::new("python3");
    python.args(["-c", &example]).env("PORT", port.to_string()).env("HOOK_SECRET", SECRET);
    let _running = Running(python.stderr(Stdio::null()).spawn().unwrap());
    wait_for("the example", TIMEOUT, async || {
        TcpStream::connect(("127.0.0.1", port)).await?;
        Ok(())
    })
    .await
    .unwrap();
    let builder =
        || Builder::new().gateways(1).workers(1).set("IM__HOOK__URL", format!("http://127.0.0.1:{port}/"));
    let system = builder().set("IM__HOOK__SECRET", SECRET).for_test().await.unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    let code = async |alice: &mut _, msg_id, content| send(alice, CHAT, msg_id, &text(content)).await.code;
    assert_eq!(code(&mut alice, "m1", "hello").await, 0);
    assert_eq!(code(&mut alice, "m2", "Buy now!").await, 403);
    let replaced = send(&mut alice, CHAT, "m3", &text("darn")).await;
    assert_eq!(replaced.payload, json!({"replaced": true, "content": "****"}));

    let other = format!("whsec_{}", "A".repeat(43) + "=");
    let system = builder().set("IM__HOOK__SECRET", other).for_test().await.unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    assert_eq!(code(&mut alice, "m1", "hello").await, 503, "the example checks signatures");
}
