//! The example of docs/webhooks.md, as it stands there.

use std::process::Command;

use serde_json::json;
use testbed::client::Client;
use testbed::example::{PythonServer, block, has_python};

use crate::{PATH, TIMEOUT, act, builder, operator, say, state_is};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_document_receives_and_checks_signatures() {
    if !has_python("the example of docs/webhooks.md") {
        return;
    }
    let example = block("docs/webhooks.md", "python").unwrap();
    let lines = example.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 45, "{lines} lines");
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    let environment = [("WEBHOOK_SECRET", SECRET.as_ref()), ("DATABASE", database.as_os_str())];
    let server = PythonServer::start(&example, &environment, TIMEOUT).await.unwrap();
    let system = builder().for_test().await.unwrap();
    let http = operator(&system, 0);
    let body =
        json!({"name": "example", "url": format!("http://127.0.0.1:{}/", server.port), "secret": SECRET});
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
