//! A short conversation that shows that everything works.

use anyhow::Context as _;

use crate::client::Client;

/// Lets alice and bob talk across two gateways (or one), and carol come back after being away.
///
/// # Errors
/// If anything is not as it should be.
pub async fn show(gateways: &[String]) -> anyhow::Result<()> {
    let (here, there) = (&gateways[0], gateways.last().context("no gateway")?);
    println!("\na short conversation across {here} and {there}:");
    let run = uuid::Uuid::new_v4().simple().to_string();
    let id = |n: usize| format!("{run}-{n}");
    let mut alice = Client::connect(here, "alice").await?;
    let mut bob = Client::connect(there, "bob").await?;

    // Where this talk begins; an earlier demo may have left messages.
    let private = "private_alice_bob";
    let group = "group_demo";
    let private_cursor = newest(&mut bob, private).await?;
    let seq = alice.say(private, &id(1), "Hello Bob, are you there?").await?;
    println!("  alice -> {private}: accepted as {seq}");
    let push =
        bob.wait_for(|packet| packet.cmd == 5 && packet.conversation_id.as_deref() == Some(private)).await?;
    println!("  bob got it pushed: {:?}", push.messages()?.last().map(|message| message.content.clone()));
    let seq = bob.say("private_bob_alice", &id(2), "I am, on another gateway.").await?;
    println!("  bob -> private_bob_alice, which is the same conversation: accepted as {seq}");

    let mut carol = Client::connect(there, "carol").await?;
    let cursor = newest(&mut carol, group).await?;
    alice.pull(group, cursor, 1).await?;
    drop(carol);
    println!("  carol has read {group} up to {cursor} and goes away");
    let mut last = 0;
    for (n, text) in ["Carol will miss this,", "and this,", "and this."].iter().enumerate() {
        last = alice.say(group, &id(10 + n), text).await?;
    }
    settle(&mut alice, group, last).await?;
    let mut carol = Client::connect(here, "carol").await?;
    let missed = carol.pull_all(group, cursor).await?;
    println!("  carol comes back on the other gateway and pulls {} messages:", missed.len());
    for message in &missed {
        println!("    {} {}: {}", message.seq, message.sender_id, message.content);
    }
    anyhow::ensure!(missed.len() == 3, "carol should have got 3");
    settle(&mut alice, private, seq).await?;
    let all = alice.pull_all(private, private_cursor).await?;
    anyhow::ensure!(all.len() == 2, "alice and bob should see 2 messages, not {}", all.len());
    Ok(())
}

async fn newest(client: &mut Client, conversation: &str) -> anyhow::Result<u64> {
    Ok(client.pull_all(conversation, 0).await?.last().map_or(0, |message| message.seq))
}

/// Accepted messages are committed a moment later.
async fn settle(client: &mut Client, conversation: &str, seq: u64) -> anyhow::Result<()> {
    crate::stack::wait_for(conversation, std::time::Duration::from_secs(10), async || {
        let newest = newest(client, conversation).await?;
        anyhow::ensure!(newest >= seq, "at {newest}, not yet at {seq}");
        Ok(())
    })
    .await
}
