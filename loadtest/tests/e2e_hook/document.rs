//! The example of docs/hook.md, as it stands there.

use serde_json::json;
use testbed::example::{PythonServer, block, has_python};
use testbed::stack::Builder;

use crate::server::SECRET;
use crate::{CHAT, TIMEOUT, connect, send, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_document_decides() {
    if !has_python("the example of docs/hook.md") {
        return;
    }
    let example = block("docs/hook.md", "python").unwrap();
    let lines = example.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 25, "{lines} lines");
    let environment = [("HOOK_SECRET", SECRET.as_ref())];
    let server = PythonServer::start(&example, &environment, TIMEOUT).await.unwrap();
    let url = format!("http://127.0.0.1:{}/", server.port);
    let builder = || Builder::new().gateways(1).workers(1).set("IM__HOOK__URL", &url);
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
