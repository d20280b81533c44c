//! Pulls all conversations and applies the rules.

use std::collections::HashMap;

use anyhow::Context as _;

use super::rules::{Renumbered, judge_list};
use super::verdict::Verdict;
use crate::client::{Client, Sender, StoredMessage};

/// Sends the message again: the reply must have the sequence number under which it is stored.
async fn judge_retry(
    gateway: &str,
    sender: &Sender,
    found: &Renumbered,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let Renumbered { n, acked, seq, .. } = *found;
    let mut client = Client::connect_with(&sender.credentials, gateway, &sender.user).await?;
    let msg_id = sender.msg_id(n);
    // The sender may have used up what its rate limit allows.
    let told = client.send_until_taken(&msg_id, &sender.frame(n, true)).await?.seq;
    if told == Some(seq) {
        verdict.renumbered += 1;
    } else {
        let example = || format!("misnumbered: {} acked as {acked} is {seq}, a retry says {told:?}", msg_id);
        verdict.record(|v| &mut v.misnumbered, example);
    }
    Ok(())
}

/// The final list of each conversation.
pub type Lists = HashMap<String, Vec<StoredMessage>>;

/// Pulls every conversation through every gateway, and judges all.
///
/// # Errors
/// If a conversation cannot be pulled.
pub async fn judge(gateways: &[String], senders: &[Sender]) -> anyhow::Result<Verdict> {
    Ok(judge_and_keep(gateways, senders).await?.0)
}

/// As [`judge`]; returns the lists too, for the rules about readers.
///
/// # Errors
/// As [`judge`].
pub async fn judge_and_keep(gateways: &[String], senders: &[Sender]) -> anyhow::Result<(Verdict, Lists)> {
    let (mut verdict, mut lists) = (Verdict::default(), Lists::new());
    let mut of: HashMap<&str, Vec<&Sender>> = HashMap::new();
    for sender in senders {
        of.entry(&sender.conversation).or_default().push(sender);
    }
    for (conversation, senders) in of {
        let mut first: Option<Vec<StoredMessage>> = None;
        for gateway in gateways {
            let mut reader = Client::connect_with(&senders[0].credentials, gateway, &senders[0].user).await?;
            let list =
                reader.pull_all(conversation, 0).await.with_context(|| format!("judging {conversation}"))?;
            match &first {
                None => {
                    for found in judge_list(&senders, &list, &mut verdict) {
                        judge_retry(gateway, senders[found.sender], &found, &mut verdict).await?;
                    }
                }
                Some(first) if *first != list => {
                    verdict.record(
                        |v| &mut v.different,
                        || format!("{gateway} has another list of {conversation}"),
                    );
                }
                Some(_) => {}
            }
            first.get_or_insert(list);
        }
        lists.insert(conversation.to_owned(), first.unwrap_or_default());
    }
    Ok((verdict, lists))
}
