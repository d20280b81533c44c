//! Dead letters, and the command for operators.

use std::process::Command;

use shared::envelope;
use shared::message::Numbered;
use shared::shard::ShardId;

use crate::support::{Ends, SHARDS, eventually, group, message};

impl Ends {
    /// Runs `worker dead-letters …`, and returns its output.
    fn dead_letters(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(env!("CARGO_BIN_EXE_worker"))
            .arg("dead-letters")
            .args(arguments)
            .env("IM__MYSQL__URL", self.settings.mysql.url.expose())
            .env("IM__AMQP__URL", self.settings.amqp.url.expose())
            .env("IM__AMQP__PREFIX", &self.settings.amqp.prefix)
            .env("IM__SHARDS__COUNT", self.settings.shards.count.unwrap_or(SHARDS).to_string())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Waits for `count` dead letters, and returns their ids and reasons.
    async fn letters(&self, count: usize) -> Vec<(String, String)> {
        eventually("dead letters", async || {
            let list = self.dead_letters(&["list", "--json"])?;
            let letters: Vec<_> = list
                .lines()
                .map(|line| {
                    let letter: serde_json::Value = serde_json::from_str(line).unwrap();
                    let text = |name: &str| letter[name].as_str().unwrap().to_owned();
                    (text("id"), text("reason"))
                })
                .collect();
            if letters.len() == count { Ok(letters) } else { Err(list) }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_body_is_listed_shown_replayed_and_dropped() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    assert_eq!(ends.dead_letters(&["list"]).unwrap(), "0 dead letters\n");
    let chat = group("group_1");
    ends.publish_raw(ends.shard_of(&chat), b"no protobuf at all").await;
    ends.publish(&[message(&chat, 1, "alice", "a1")]).await;
    // Other messages are committed.
    ends.expect_timeline(&chat, &[(1, "a1")]).await;
    let [(id, reason)] = &ends.letters(1).await[..] else { panic!("one letter") };
    assert!(reason.contains("not decodable"), "{reason}");
    let shown = ends.dead_letters(&["show", id]).unwrap();
    assert!(shown.contains("it begins with no protobuf at all"), "{shown}");
    let unknown = ends.dead_letters(&["drop", "0000000000000000"]).unwrap_err();
    assert!(unknown.contains("there is no dead letter 0000000000000000"), "{unknown}");
    // A replay does not repair it: it becomes a dead letter again.
    assert!(ends.dead_letters(&["replay", id]).unwrap().contains("1 replayed, 0 left"));
    let [(id, _)] = &ends.letters(1).await[..] else { panic!("one letter") };
    assert!(ends.dead_letters(&["drop", id]).unwrap().contains("1 dropped, 0 left"));
    ends.letters(0).await;
    assert!(worker.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_survive_being_listed_many_times() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    ends.publish_raw(ShardId(0), b"first").await;
    ends.publish_raw(ShardId(1), b"second").await;
    let mut first = ends.letters(2).await;
    first.sort();
    // RabbitMQ 4 drops a message that was returned 20 times.
    for _ in 0..25 {
        let mut again = ends.letters(2).await;
        again.sort();
        assert_eq!(again, first);
    }
    assert!(worker.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_message_is_deduplicated() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.join(&chat, &["alice", "carol"]).await;
    // From a gateway with another number of shards: valid, but in the wrong queue.
    let astray = message(&chat, 1, "alice", "a1");
    let wrong = ShardId(u32::from(ends.shard_of(&chat).0 == 0));
    let body = envelope::encode_batch(wrong, std::iter::once(&astray));
    ends.publish_raw(wrong, &body).await;
    ends.publish_raw(wrong, &body).await;
    let letters = ends.letters(2).await;
    assert!(letters.iter().all(|(_, reason)| reason.contains("check shards.count")), "{letters:?}");
    let replayed = ends.dead_letters(&["replay", "--all"]).unwrap();
    assert!(replayed.contains("2 replayed, 0 left"), "{replayed}");
    // Published twice and stored once, also after later messages.
    ends.expect_timeline(&chat, &[(1, "a1")]).await;
    ends.publish(&[message(&chat, 2, "bob", "b1"), message(&chat, 3, "bob", "b2")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1"), (3, "b2")]).await;
    ends.publish_raw(wrong, &body).await;
    let late = Numbered { seq: shared::ids::Seq(2), ..message(&chat, 2, "carol", "c1") };
    ends.publish_raw(wrong, &envelope::encode_batch(wrong, std::iter::once(&late))).await;
    ends.letters(2).await;
    assert!(ends.dead_letters(&["replay", "--all"]).unwrap().contains("2 replayed, 0 left"));
    // The message that was not stored before is renumbered: no message appears below a cursor.
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1"), (3, "b2"), (4, "c1")]).await;
    ends.letters(0).await;
    assert!(worker.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_takes_the_stored_number_of_shards_and_not_the_configured_one() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    ends.publish_raw(ShardId(0), b"broken").await;
    let [(id, _)] = &ends.letters(1).await[..] else { panic!("one letter") };
    ends.settings.shards.count = Some(3);
    assert!(ends.dead_letters(&["replay", id]).unwrap().contains("1 replayed, 0 left"));
    ends.letters(1).await;
    assert!(worker.stop().await);
}
