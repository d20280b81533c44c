//! Checks that every connection still receives pushes.

use std::collections::BTreeMap;
use std::time::Duration;

use testbed::client::{Client, Sender, Sent};
use testbed::stack::wait_for;

use crate::participants::KnownReader;

/// For one fresh message to be pushed to all readers.
const PUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Fresh messages that a connection may miss. One push may be lost: a pull repairs that.
const PUSHES_MISSED_MAX: usize = 6;

/// Sends fresh messages until each reader has received one on its present connection. Returns a line for each that has
/// received none.
pub(crate) async fn without_pushes(
    gateways: &[String],
    senders: &mut [Sender],
    readers: &[KnownReader],
) -> anyhow::Result<Vec<String>> {
    let mut by_conversation: BTreeMap<String, &mut Sender> = BTreeMap::new();
    for sender in senders {
        by_conversation.entry(sender.conversation.clone()).or_insert(sender);
    }
    let mut all = Vec::new();
    for (turn, (conversation, sender)) in by_conversation.into_iter().enumerate() {
        let mut client = Client::connect(&gateways[turn % gateways.len()], &sender.user).await?;
        let members: Vec<_> = readers.iter().filter(|reader| reader.conversation == conversation).collect();
        let mut missing = Vec::new();
        for _ in 0..PUSHES_MISSED_MAX {
            let n = sender.sent.len();
            sender.sent.push(Sent { repeated: true, ..Sent::default() });
            let seq = client.say(&conversation, &sender.msg_id(n), &sender.content(n)).await?;
            sender.sent[n].acked = Some(seq);
            let received = wait_for("a push", PUSH_TIMEOUT, async || {
                let behind = members.iter().filter(|reader| reader.reading.pushed() < seq);
                missing = behind
                    .map(|reader| format!("{} in {conversation}, at {seq}", reader.user))
                    .collect::<Vec<_>>();
                anyhow::ensure!(missing.is_empty(), "not every reader has received it");
                Ok(())
            });
            if received.await.is_ok() {
                break;
            }
        }
        all.append(&mut missing);
    }
    Ok(all)
}
