//! The endpoint fails in every way: deadlines are kept, the breaker opens and closes, and the setting decides meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::Client;
use testbed::meter::metric;
use testbed::stack::{System, wait_for};

use crate::server::{Endpoint, Reply, allow, at_once, refuse};
use crate::{TIMEOUT, answer_to, asking, connect, frame, send};

/// That of a request.
const DEADLINE: Duration = Duration::from_secs(5);
const GROUP: &str = "group_faults";

/// Refuses what is bad, and allows the rest.
fn moderate(data: &Value) -> Reply {
    let is_bad = data["message"]["content"] == "bad";
    at_once(if is_bad { refuse("no") } else { allow() })
}

async fn gauge(system: &System, name: &str) -> f64 {
    metric(&system.ops_urls()[0], name).await.unwrap_or_default()
}

async fn breaker_is(system: &System, open: bool) {
    wait_for("the breaker", TIMEOUT, async || {
        let found = gauge(system, "im_gateway_hook_breaker_open").await;
        anyhow::ensure!((found > 0.5) == open, "im_gateway_hook_breaker_open is {found}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Sends 100 messages at once, and returns their codes. Each is answered by its deadline.
async fn burst(client: &mut Client, name: &str) -> Vec<i64> {
    let begin = Instant::now();
    for n in 0..100 {
        client.send(frame(GROUP, &format!("{name}-{n}"), &json!({"content": "x"}))).await.unwrap();
    }
    let mut codes = Vec::new();
    for _ in 0..100 {
        let answer = client.wait_for(|packet| packet.cmd == 2).await.unwrap();
        codes.push(i64::from(answer.code));
    }
    let elapsed = begin.elapsed();
    assert!(elapsed < DEADLINE + Duration::from_millis(500), "{name}: {elapsed:?}");
    codes
}

/// Waits until messages are decided about again: the probe may be one of them.
async fn decides_again(system: &System, client: &mut Client, name: &str) {
    let mut n = 0;
    wait_for("a decision", TIMEOUT, async || {
        n += 1;
        let answer = send(client, GROUP, &format!("{name}-again-{n}"), &json!({"content": "bad"})).await;
        anyhow::ensure!(answer.code == 403, "{} {}", answer.code, answer.payload);
        Ok(())
    })
    .await
    .unwrap();
    breaker_is(system, false).await;
}

async fn faults(on_failure: &str, undecided: i64) {
    let mut endpoint = Endpoint::start().await;
    endpoint.set(moderate);
    let system = asking(&endpoint, on_failure)
        .gateways(1)
        .set("IM__HOOK__TIMEOUT_MS", 300)
        .set("IM__HOOK__CALLS_AT_ONCE", 16)
        .set("IM__HOOK__BREAKER_FAILURES", 5)
        .set("IM__HOOK__BREAKER_OPEN_MS", 1_000)
        .for_test()
        .await
        .unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    assert_eq!(burst(&mut alice, "well").await, [0; 100]);
    assert_eq!(send(&mut alice, GROUP, "bad", &json!({"content": "bad"})).await.code, 403);

    // It accepts connections, and answers nothing.
    endpoint.set(|_| Reply::Never);
    assert_eq!(burst(&mut alice, "frozen").await, [undecided; 100]);
    breaker_is(&system, true).await;
    let (begin, asked) = (Instant::now(), endpoint.seen().len());
    assert_eq!(burst(&mut alice, "open").await, [undecided; 100]);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    let asked = endpoint.seen().len() - asked;
    assert!(asked <= 1, "{asked} calls beside the probe");
    endpoint.set(moderate);
    decides_again(&system, &mut alice, "thawed").await;

    // The endpoint is killed, and started again.
    endpoint.kill().await;
    assert_eq!(burst(&mut alice, "dead").await, [undecided; 100]);
    breaker_is(&system, true).await;
    endpoint.revive().await;
    decides_again(&system, &mut alice, "back").await;

    // It answers wrongly.
    let huge = "x".repeat(100_000);
    for (name, raw) in [
        ("malformed", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned()),
        ("error", "HTTP/1.1 500 Error\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("redirect", "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("huge", format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{huge}", huge.len())),
    ] {
        endpoint.set(move |_| Reply::Raw(raw.clone()));
        assert_eq!(burst(&mut alice, name).await, [undecided; 100], "{name}");
        breaker_is(&system, true).await;
        endpoint.set(moderate);
        decides_again(&system, &mut alice, name).await;
    }

    let label = if undecided == 0 { "allowed" } else { "refused" };
    let name = format!("im_gateway_hook_undecided_messages_total{{decision=\"{label}\"}}");
    assert!(gauge(&system, &name).await >= 700.0);
    assert!(gauge(&system, "im_gateway_hook_not_called_total{reason=\"breaker\"}").await >= 100.0);
    wait_for("no message waits", TIMEOUT, async || {
        for name in ["im_gateway_hook_waiting_messages", "im_gateway_hook_calls_in_progress"] {
            let found = gauge(&system, name).await;
            anyhow::ensure!(found == 0.0, "{name} is {found}");
        }
        Ok(())
    })
    .await
    .unwrap();
    // What was accepted is there once, and what was refused is not.
    let stored = alice.pull_all(GROUP, 0).await.unwrap();
    let of = |name: &str| stored.iter().filter(|one| one.msg_id.starts_with(name)).count();
    let expected = if undecided == 0 { 100 } else { 0 };
    for name in ["frozen-", "open-", "dead-", "malformed-", "error-", "redirect-", "huge-"] {
        let again = stored.iter().filter(|one| one.msg_id.starts_with(&format!("{name}again"))).count();
        assert_eq!(of(name) - again, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_allow_messages_go_on_while_the_endpoint_fails() {
    faults("allow", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_refuse_messages_are_tried_again_while_the_endpoint_fails() {
    faults("refuse", 503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_answers_messages_that_wait() {
    let endpoint = Endpoint::start().await;
    let mut system = asking(&endpoint, "refuse").gateways(1).for_test().await.unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    endpoint.set(|_| Reply::Json(Duration::from_millis(600), allow()));
    alice.send(frame(GROUP, "m1", &json!({"content": "x"}))).await.unwrap();
    wait_for("the call", TIMEOUT, async || {
        anyhow::ensure!(!endpoint.seen().is_empty(), "no call");
        Ok(())
    })
    .await
    .unwrap();
    let stopping = tokio::spawn(async move { system.gateway(0).terminate().await });
    assert_eq!(answer_to(&mut alice, "m1").await.code, 0);
    stopping.await.unwrap();
}
