//! Fresh numbers for messages whose own came too late or twice.
//!
//! They are taken from the conversation's counter, which is raised above everything that was seen here first, so that a
//! fresh number is above every number that anybody holds. The message then waits for its turn like any other.

use std::future::Future;

use futures_util::future::join_all;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::redis::RedisError;
use shared::redis::sequence::Sequence;

use super::pending::Pending;

/// Where numbers come from.
pub trait Sequencer: Send + Sync {
    /// What may go wrong.
    type Error: std::error::Error + Send;

    /// Takes `count` numbers above `above`, all above any given out before, and returns the first.
    fn take_above(
        &self,
        conversation: &Conversation,
        above: Seq,
        count: u32,
    ) -> impl Future<Output = Result<Seq, Self::Error>> + Send;

    /// Notes the final number of a message, for retries.
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

/// A message that needs a fresh number.
#[derive(Debug)]
pub struct Displaced {
    /// The message, under the number that it cannot keep.
    pub pending: Pending,
    /// The fresh number must be above this one.
    pub above: Seq,
}

/// Gives fresh numbers to `displaced`, rising in order of arrival within each conversation, and moves what got one to
/// `numbered`. What got none stays.
///
/// # Errors
/// One of the failures, if there was any.
pub async fn number<S: Sequencer>(
    sequencer: &S,
    displaced: &mut Vec<Displaced>,
    numbered: &mut Vec<Pending>,
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
            Ok(first) => numbered.extend(group.zip(first.0..).map(|(mut one, number)| {
                one.pending.renumber(Seq(number));
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

    /// Has a counter that nobody else uses, and no memory.
    struct OneAbove;

    impl Sequencer for OneAbove {
        type Error = std::io::Error;

        async fn take_above(&self, at: &Conversation, above: Seq, _: u32) -> Result<Seq, std::io::Error> {
            if at.key() == "group_away" { Err(std::io::Error::other("away")) } else { Ok(above.next()) }
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
    fn fresh_numbers_rise_in_order_of_arrival_and_what_got_none_stays() {
        let mut waiting = vec![
            displaced("group_a", 9, 40),
            displaced("group_away", 2, 7),
            displaced("group_b", 3, 5),
            displaced("group_a", 4, 30),
        ];
        let mut numbered = Vec::new();
        let asked = number(&OneAbove, &mut waiting, &mut numbered).now_or_never().unwrap();
        assert_eq!(asked.unwrap_err().to_string(), "away");
        let got: Vec<_> =
            numbered.iter().map(|p| (p.message.conversation.key(), p.arrival, p.seq.0)).collect();
        assert_eq!(got, [("group_a", 4, 41), ("group_a", 9, 42), ("group_b", 3, 6)]);
        assert!(numbered.iter().all(Pending::is_renumbered));
        assert_eq!(waiting.iter().map(|d| d.pending.arrival).collect::<Vec<_>>(), [2]);
    }
}
