//! Fresh sequence numbers for messages whose own is used or was skipped.
//!
//! They come from the conversation's counter, which is first raised above all that this worker has seen, so that a fresh
//! number is above every number given out before. The message is then planned like any other.

use std::future::Future;

use futures_util::future::join_all;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::redis::RedisError;
use shared::redis::sequence::Sequence;

use super::pending::Pending;

/// The source of sequence numbers.
pub(crate) trait Sequencer: Send + Sync {
    /// Failure of a call.
    type Error: std::error::Error + Send;

    /// Takes `count` sequence numbers above `above` and above all that were given out before, and returns the first.
    fn take_above(
        &self,
        conversation: &Conversation,
        above: Seq,
        count: u32,
    ) -> impl Future<Output = Result<Seq, Self::Error>> + Send;

    /// Records the final sequence number of a message, for retries.
    fn remember(
        &self,
        conversation: &Conversation,
        sender: &UserId,
        msg_id: &MsgId,
        seq: Seq,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl Sequencer for Sequence {
    type Error = RedisError;

    async fn take_above(
        &self,
        conversation: &Conversation,
        above: Seq,
        count: u32,
    ) -> Result<Seq, RedisError> {
        Sequence::take_above(self, conversation, above, count).await
    }

    async fn remember(
        &self,
        conversation: &Conversation,
        sender: &UserId,
        msg_id: &MsgId,
        seq: Seq,
    ) -> Result<(), RedisError> {
        Sequence::remember(self, conversation, sender, msg_id, seq).await
    }
}

/// A message that needs a fresh sequence number.
#[derive(Debug)]
pub(crate) struct Displaced {
    /// The message with its old sequence number.
    pub(crate) pending: Pending,
    /// The fresh sequence number must be above this one.
    pub(crate) above: Seq,
}

/// Gives fresh sequence numbers to `displaced`, rising in order of arrival within each conversation, and moves the
/// messages to `renumbered`. Those of a conversation whose call failed remain.
///
/// # Errors
/// One of the failures, if there was any.
pub(crate) async fn renumber<S: Sequencer>(
    sequencer: &S,
    displaced: &mut Vec<Displaced>,
    renumbered: &mut Vec<Pending>,
) -> Result<(), S::Error> {
    displaced.sort_unstable_by(|a, b| {
        let by_conversation = a.pending.message.conversation.cmp(&b.pending.message.conversation);
        by_conversation.then(a.pending.arrival.cmp(&b.pending.arrival))
    });
    let groups = displaced.chunk_by(|a, b| a.pending.message.conversation == b.pending.message.conversation);
    let taken = join_all(groups.map(|group| async move {
        let above = group.iter().map(|one| one.above).max().unwrap_or(Seq::ZERO);
        let count = u32::try_from(group.len()).unwrap_or(u32::MAX);
        let first = match group.first() {
            Some(one) => sequencer.take_above(&one.pending.message.conversation, above, count).await,
            None => Ok(Seq::ZERO),
        };
        (group.len(), first)
    }));
    let taken = taken.await;
    let mut failed = None;
    let mut waiting = std::mem::take(displaced).into_iter();
    for (length, first) in taken {
        let group = waiting.by_ref().take(length);
        match first {
            Ok(first) => renumbered.extend(group.zip(first.0..).map(|(mut one, seq)| {
                one.pending.renumber(Seq(seq));
                one.pending
            })),
            Err(error) => {
                displaced.extend(group);
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use shared::message::fixture;

    use super::*;

    /// Returns the next number above, and records nothing.
    struct OneAbove;

    impl Sequencer for OneAbove {
        type Error = std::io::Error;

        async fn take_above(&self, at: &Conversation, above: Seq, _: u32) -> Result<Seq, std::io::Error> {
            if at.key() == "group_unavailable" {
                Err(std::io::Error::other("unavailable"))
            } else {
                Ok(above.next())
            }
        }

        async fn remember(
            &self,
            _: &Conversation,
            _: &UserId,
            _: &MsgId,
            _: Seq,
        ) -> Result<(), std::io::Error> {
            Ok(())
        }
    }

    fn displaced(group: &str, arrival: u64, above: u64) -> Displaced {
        let message = fixture::numbered(group, 1, "alice", &format!("m{arrival}"));
        Displaced { pending: Pending::new(message, 1, arrival, false), above: Seq(above) }
    }

    #[test]
    fn fresh_seqs_rise_in_order_of_arrival_and_messages_without_one_remain() {
        let mut waiting = vec![
            displaced("group_a", 9, 40),
            displaced("group_unavailable", 2, 7),
            displaced("group_b", 3, 5),
            displaced("group_a", 4, 30),
        ];
        let mut renumbered = Vec::new();
        let result = renumber(&OneAbove, &mut waiting, &mut renumbered).now_or_never().unwrap();
        assert_eq!(result.unwrap_err().to_string(), "unavailable");
        let got: Vec<_> =
            renumbered.iter().map(|p| (p.message.conversation.key(), p.arrival, p.seq.0)).collect();
        assert_eq!(got, [("group_a", 4, 41), ("group_a", 9, 42), ("group_b", 3, 6)]);
        assert!(renumbered.iter().all(Pending::is_renumbered));
        assert_eq!(waiting.iter().map(|d| d.pending.arrival).collect::<Vec<_>>(), [2]);
    }
}
