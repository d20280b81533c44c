use std::sync::atomic::AtomicUsize;

use shared::message::fixture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// An endpoint that waits, and then answers with this status and body.
struct Server {
    port: u16,
    calls: Arc<AtomicUsize>,
    status: Arc<Mutex<u16>>,
}

async fn server(wait: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (calls, status) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(200)));
    let server = Server { port, calls: Arc::clone(&calls), status: Arc::clone(&status) };
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (calls, status) = (Arc::clone(&calls), Arc::clone(&status));
            tokio::spawn(async move {
                let mut buffer = [0; 8_192];
                while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                    calls.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(wait).await;
                    let body = r#"{"action":"allow"}"#;
                    let (status, length) = (*status.lock(), body.len());
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    server
}

fn config(server: &Server) -> config::Hook {
    config::Hook {
        url: format!("http://127.0.0.1:{}/", server.port),
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
        timeout_ms: 300,
        breaker_failures: 3,
        breaker_open_ms: 300,
        ..config::Hook::default()
    }
}

fn hook(config: &config::Hook) -> Hook {
    Hook::new(config, Shutdown::new()).unwrap()
}

fn message() -> Message {
    fixture::numbered("group_1", 1, "alice", "m1").message
}

async fn decide(hook: &Hook, within_ms: u64) -> Decision {
    let question = hook.question(&message()).unwrap();
    hook.decide(question, Instant::now() + Duration::from_millis(within_ms)).await
}

#[tokio::test]
async fn a_hook_that_is_off_asks_about_nothing_and_can_be_switched_on_and_off() {
    let server = server(Duration::ZERO).await;
    let hook = hook(&config::Hook::default());
    assert!(!hook.is_used() && hook.gauges().is_none() && hook.question(&message()).is_none());
    hook.set(&config(&server), &Shutdown::new());
    assert!(hook.is_used() && matches!(decide(&hook, 1_000).await, Decision::Allow));
    let groups = config::Hook { conversations: vec!["private".to_owned()], ..config(&server) };
    hook.set(&groups, &Shutdown::new());
    assert!(hook.question(&message()).is_none(), "a group");
    hook.set(&config::Hook::default(), &Shutdown::new());
    assert!(hook.is_used() && hook.question(&message()).is_none(), "messages may still wait");
}

#[tokio::test]
async fn the_breaker_opens_and_closes_and_the_setting_decides_meanwhile() {
    let server = server(Duration::ZERO).await;
    for (on_failure, expected) in [(OnFailure::Allow, true), (OnFailure::Refuse, false)] {
        let hook = hook(&config::Hook { on_failure, ..config(&server) });
        let is_expected = |decision: Decision| match decision {
            Decision::Allow => expected,
            Decision::TryAgain => !expected,
            _ => false,
        };
        *server.status.lock() = 500;
        for n in 0..3 {
            assert!(!hook.gauges().unwrap().is_open, "{n}");
            assert!(is_expected(decide(&hook, 1_000).await));
        }
        assert!(hook.gauges().unwrap().is_open);
        let calls = server.calls.load(Ordering::Relaxed);
        assert!(is_expected(decide(&hook, 1_000).await));
        assert_eq!(server.calls.load(Ordering::Relaxed), calls, "it is not called");
        *server.status.lock() = 200;
        tokio::time::sleep(Duration::from_millis(350)).await;
        assert!(matches!(decide(&hook, 1_000).await, Decision::Allow), "the probe");
        assert!(!hook.gauges().unwrap().is_open);
    }
}

#[tokio::test]
async fn at_the_limit_messages_wait_for_a_call_to_end_as_long_as_another_one_has_its_time() {
    let server = server(Duration::from_millis(200)).await;
    let hook = hook(&config::Hook { calls_at_once: 1, ..config(&server) });
    // The first two are decided after 200 and 400 ms. The third one would begin later than 300 ms before 600.
    let all = futures_util::join!(decide(&hook, 700), decide(&hook, 700), decide(&hook, 600));
    assert!(matches!(all, (Decision::Allow, Decision::Allow, Decision::TryAgain)), "{all:?}");
    assert_eq!(hook.gauges().unwrap().calls, 0);
    let begin = Instant::now();
    assert!(matches!(decide(&hook, 250).await, Decision::TryAgain), "less time than a call may take");
    assert!(begin.elapsed() < Duration::from_millis(100));
    assert_eq!(server.calls.load(Ordering::Relaxed), 2);
    assert!(!hook.gauges().unwrap().is_open, "the endpoint has not failed");
}
