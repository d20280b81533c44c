//! How fast an endpoint that was away catches up. A measurement: it runs only if it is asked for.
//!
//! Variables of the environment: `SHARDS`, `SENDERS`, `EACH` (messages of each sender) and `WINDOW` (messages that a sender has
//! unanswered). Many senders with a large window make few commits of many messages, few senders with a window of 1 many of few.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::client::Chat;
use testbed::client::{Client, WebhookReceiver, chat_frame};
use testbed::stack::wait_for;

use crate::{act, add, builder, operator, show};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo nextest run --release -p loadtest --test e2e_webhooks --run-ignored only"]
async fn an_endpoint_that_was_away_catches_up() {
    let (shards, senders) = (number("SHARDS", 2), number("SENDERS", 20));
    let (each, window) = (number("EACH", 10_000), number("WINDOW", 200));
    let system = builder().set("IM__SHARDS__COUNT", shards).for_test().await.unwrap();
    let http = operator(&system, 0);
    let receiver = WebhookReceiver::start().await.unwrap();
    receiver.keep_no_calls();
    let id = add(&http, &receiver, json!({"event_types": ["message"]})).await;
    act(&http, &id, "pause", json!({})).await;
    let mut sending = tokio::task::JoinSet::new();
    for n in 0..senders {
        let url = system.ws_urls()[n % 2].clone();
        sending.spawn(async move {
            let mut client = Client::connect(&url, &format!("user{n}")).await.unwrap();
            let conversation = format!("group_lag{n}");
            client.say(&conversation, "first", "x").await.unwrap();
            for chunk in 0..each / window {
                for m in 0..window {
                    let (msg_id, content) =
                        (format!("{chunk}.{m}"), "a message of an ordinary length".to_owned());
                    let chat = Chat { conversation: conversation.clone(), msg_id, content, stored: true };
                    client.send(chat_frame(&chat)).await.unwrap();
                }
                for _ in 0..window {
                    let answer = client.wait_for(|packet| packet.cmd == 2).await.unwrap();
                    assert_eq!(answer.code, 0, "{}", answer.payload);
                }
            }
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap();
    }
    let rows = show(&http, &id).await["lag_rows"].as_u64().unwrap();
    act(&http, &id, "resume", json!({})).await;
    wait_for("the first event", Duration::from_secs(30), async || {
        anyhow::ensure!(receiver.recorded() > 0, "none");
        Ok(())
    })
    .await
    .unwrap();
    let (begun, first) = (Instant::now(), receiver.recorded());
    let all = senders * (each / window * window + 1);
    wait_for("all events", Duration::from_secs(600), async || {
        anyhow::ensure!(receiver.recorded() == all, "{} of {all}", receiver.recorded());
        Ok(())
    })
    .await
    .unwrap();
    let elapsed = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand")]
    let per_second = (all - first) as f64 / elapsed;
    println!("{all} messages in {rows} rows: {elapsed:.1} s, {per_second:.0} events/s");
}
