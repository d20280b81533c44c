//! The example of docs/webhooks.md, as it stands there.

use std::process::{Child, Command, Stdio};

use serde_json::json;
use testbed::client::Client;
use testbed::stack::wait_for;
use tokio::net::TcpStream;

use crate::{PATH, TIMEOUT, act, builder, operator, say, state_is};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The first block of that language.
fn block(language: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/webhooks.md")).unwrap();
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
async fn the_example_of_the_document_receives_and_checks_signatures() {
    let is_there = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        assert!(std::env::var_os("IM_ALL_TOOLS").is_none(), "python3 is missing");
        println!("SKIPPED: the example of docs/webhooks.md is not tested without python3");
        return;
    }
    let example = block("python");
    let lines = example.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 45, "{lines} lines");
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut python = Command::new("python3");
    python.args(["-c", &example]).env("PORT", port.to_string()).env("WEBHOOK_SECRET", SECRET);
    python.env("DATABASE", &database);
    let _running = Running(python.stderr(Stdio::null()).spawn().unwrap());
    wait_for("the example", TIMEOUT, async || {
        TcpStream::connect(("127.0.0.1", port)).await?;
        Ok(())
    })
    .await
    .unwrap();
    let system = builder().for_test().await.unwrap();
    let http = operator(&system, 0);
    let body = json!({"name": "example", "url": format!("http://127.0.0.1:{port}/"), "secret": SECRET});
    let added = http.ok("POST", PATH, Some(body)).await.unwrap();
    let id = added["id"].as_str().unwrap();
    let mut ann = Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    say(&mut ann, "group_example", "m", 20).await;
    let stored = || {
        let query = "import sqlite3, os; print(sqlite3.connect(os.environ['DATABASE']).execute('SELECT COUNT(*) FROM event').fetchone()[0])";
        let output = Command::new("python3").args(["-c", query]).env("DATABASE", &database).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    state_is(&http, id, "the end", |shown| shown["lag_rows"] == 0 && shown["state"] == "delivering").await;
    let first = stored();
    assert!(first.parse::<u32>().is_ok_and(|count| count >= 20), "{first}");
    // All again: nothing is stored twice.
    act(&http, id, "replay", json!({"cursor": "oldest"})).await;
    state_is(&http, id, "the end", |shown| shown["lag_rows"] == 0).await;
    assert_eq!(stored(), first);

    act(&http, id, "rotate", json!({"keep_old_s": 0})).await;
    let tested = act(&http, id, "test", json!({})).await;
    assert_eq!((&tested["is_delivered"], &tested["status"]), (&json!(false), &json!(401)), "{tested}");
}
