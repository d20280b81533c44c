//! A short conversation that shows that the system works.

use std::time::Duration;

use anyhow::Context as _;

use crate::client::Client;

/// Alice and bob talk across two gateways (or one); carol pulls what she missed while she was not connected.
///
/// # Errors
/// If an answer is wrong or missing.
pub async fn show(gateways: &[String]) -> anyhow::Result<()> {
    let (first, second) = (gateways.first().context("no gateway")?, gateways.last().context("no gateway")?);
    println!("\na short conversation across {first} and {second}:");
    let run = uuid::Uuid::new_v4().simple().to_string();
    let id = |n: usize| format!("{run}-{n}");
    let mut alice = Client::connect(first, "alice").await?;
    let mut bob = Client::connect(second, "bob").await?;

    // Messages of an earlier demo are at or below this cursor.
    let private = "private_alice_bob";
    let group = "group_demo";
    let private_cursor = newest(&mut bob, private).await?;
    let seq = alice.say(private, &id(1), "Hello Bob, are you there?").await?;
    println!("  alice -> {private}: accepted as {seq}");
    let push =
        bob.wait_for(|packet| packet.cmd == 5 && packet.conversation_id.as_deref() == Some(private)).await?;
    let pushed = push.messages()?.pop().context("a push without a message")?;
    println!("  bob receives the push: {}", pushed.content);
    let seq = bob.say("private_bob_alice", &id(2), "I am, on another gateway.").await?;
    println!("  bob -> private_bob_alice, which is the same conversation: accepted as {seq}");

    let mut carol = Client::connect(second, "carol").await?;
    let cursor = newest(&mut carol, group).await?;
    alice.pull(group, cursor, 1).await?;
    drop(carol);
    println!("  carol has read {group} up to {cursor} and disconnects");
    let mut last = 0;
    for (n, text) in ["Carol will miss this,", "and this,", "and this."].iter().enumerate() {
        last = alice.say(group, &id(10 + n), text).await?;
    }
    wait_for_commit(&mut alice, group, last).await?;
    let mut carol = Client::connect(first, "carol").await?;
    let missed = carol.pull_all(group, cursor).await?;
    println!("  carol connects to the other gateway and pulls {} messages:", missed.len());
    for message in &missed {
        println!("    {} {}: {}", message.seq, message.sender_id, message.content);
    }
    anyhow::ensure!(missed.len() == 3, "carol should have pulled 3 messages");
    wait_for_commit(&mut alice, private, seq).await?;
    let all = alice.pull_all(private, private_cursor).await?;
    anyhow::ensure!(all.len() == 2, "alice and bob should see 2 messages, not {}", all.len());
    Ok(())
}

async fn newest(client: &mut Client, conversation: &str) -> anyhow::Result<u64> {
    Ok(client.pull_all(conversation, 0).await?.last().map_or(0, |message| message.seq))
}

/// For an accepted message to be committed.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepted messages are committed a moment later.
async fn wait_for_commit(client: &mut Client, conversation: &str, seq: u64) -> anyhow::Result<()> {
    crate::stack::wait_for(conversation, COMMIT_TIMEOUT, async || {
        let newest = newest(client, conversation).await?;
        anyhow::ensure!(newest >= seq, "at {newest}, not yet at {seq}");
        Ok(())
    })
    .await
}
