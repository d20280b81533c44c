//! Sequence numbers of messages.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fred::interfaces::KeysInterface as _;
use fred::types::Expiration;
use fred::types::scripts::Script;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::error::RedisError;
use super::keys;
use crate::conversation::Conversation;
use crate::ids::{MsgId, Seq, UserId};
use crate::message::Fingerprint;

static NEXT: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/next_seq.lua")));
static RAISE: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/raise_seq.lua")));

/// Most messages of one call: Lua's `unpack` pushes those of a conversation to its stack, which holds 8,000 values.
pub const MESSAGES_PER_CALL_MAX: usize = 4_000;

/// In a cluster, how much later than the first answer an answer may come: the conversations of one server do not wait for those
/// of another one that is lost.
const LATE_AFTER: Duration = Duration::from_millis(250);

/// The start of a missing counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The first number to be assigned is the next one.
    pub last: Seq,
    /// The conversation has messages, so that the first number does not follow its `last_seq` directly.
    pub jump: bool,
}

/// A request for numbers for messages of one conversation.
#[derive(Debug, Clone)]
pub struct NumberRequest<'m> {
    /// The conversation.
    pub conversation: &'m Conversation,
    /// The sender, the id and the fingerprint of each message, in order.
    pub messages: Vec<(&'m UserId, &'m MsgId, Fingerprint)>,
    /// The start of the counter if it is missing.
    pub floor: Option<Floor>,
}

/// The number of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignedNumber {
    /// A new number.
    New(Seq),
    /// The number that the id had already, and the message that it was assigned to, if that is known: this is a retry, or the
    /// id is reused.
    Known(Seq, Option<Fingerprint>),
}

/// The numbers for the messages of one conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbers {
    /// Redis has no counter for this conversation: read its `last_seq` and ask again with a [`Floor`].
    NoCounter,
    /// One number per message, in order.
    Assigned {
        /// The first new number follows a jump.
        jump: bool,
        /// The numbers.
        numbers: Vec<AssignedNumber>,
    },
}

/// Assigns sequence numbers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sequence {
    client: Client,
    sent_ttl_s: u32,
}

impl Sequence {
    /// A sequence that remembers ids for `sent_ttl_s` seconds.
    #[must_use]
    pub fn new(client: Client, sent_ttl_s: u32) -> Self {
        Self { client, sent_ttl_s: sent_ttl_s.max(1) }
    }

    /// Numbers messages, at most [`MESSAGES_PER_CALL_MAX`] in total. All are in one call, because a call costs Redis and this
    /// process several times as much as a message; in a cluster, where conversations are on different servers, there is one
    /// call for each, and those that answer much later than the first one have failed. Returns one result for each of `requests`, which are of distinct conversations.
    ///
    /// # Errors
    /// The numbers may have been assigned: a retry with the same ids returns them.
    pub async fn next(&self, requests: &[NumberRequest<'_>]) -> Vec<Result<Numbers, Arc<RedisError>>> {
        let together = self.client.keys_together(requests.len()).max(1);
        if requests.len() <= together {
            return self.numbers(requests).await;
        }
        let answered = CancellationToken::new();
        let calls = requests.chunks(together).map(|requests| async {
            let late = async {
                answered.cancelled().await;
                tokio::time::sleep(LATE_AFTER).await;
            };
            tokio::select! {
                biased;
                numbers = self.numbers(requests) => {
                    if numbers.iter().any(Result::is_ok) {
                        answered.cancel();
                    }
                    numbers
                }
                () = late => vec![Err(Arc::new(RedisError::Late)); requests.len()],
            }
        });
        // Started together, so that they are sent in one write.
        join_all(calls).await.into_iter().flatten().collect()
    }

    async fn numbers(&self, requests: &[NumberRequest<'_>]) -> Vec<Result<Numbers, Arc<RedisError>>> {
        match self.call(requests).await {
            Ok(numbers) => numbers.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(Arc::new(error)); requests.len()],
        }
    }

    async fn call(&self, requests: &[NumberRequest<'_>]) -> Result<Vec<Numbers>, RedisError> {
        let mut script_keys = Vec::new();
        let mut arguments = vec![self.sent_ttl_s.to_string()];
        for NumberRequest { conversation, messages, floor } in requests {
            script_keys.push(keys::seq(conversation));
            script_keys.extend(messages.iter().map(|(sender, id, _)| keys::sent(conversation, sender, id)));
            let (last, jump) = floor.map_or((String::new(), false), |f| (f.last.to_string(), f.jump));
            arguments.extend([messages.len().to_string(), last, u8::from(jump).to_string()]);
            arguments.extend(messages.iter().map(|(_, _, fingerprint)| fingerprint.to_string()));
        }
        let answer: Vec<i64> = self.client.script(&NEXT, script_keys, arguments).await?;
        let counts = requests.iter().map(|request| request.messages.len());
        read(&answer, counts)
            .ok_or_else(|| RedisError::Answer(format!("{} values for message numbers", answer.len())))
    }

    /// The last number that was assigned in `conversation`; `None` if Redis has no counter for it.
    ///
    /// # Errors
    /// Redis's.
    pub async fn last_assigned(&self, conversation: &Conversation) -> Result<Option<Seq>, RedisError> {
        let key = &keys::seq(conversation);
        let last: Option<u64> = self.client.at(key, |redis| async move { redis.get(key).await }).await?;
        Ok(last.map(Seq))
    }

    /// The number that the id of a message has, while it is remembered: an earlier attempt was numbered.
    ///
    /// # Errors
    /// Redis's.
    pub async fn known(
        &self,
        conversation: &Conversation,
        sender: &UserId,
        msg_id: &MsgId,
    ) -> Result<Option<Seq>, RedisError> {
        let key = &keys::sent(conversation, sender, msg_id);
        let value: Option<String> = self.client.at(key, |redis| async move { redis.get(key).await }).await?;
        // Behind the point is the fingerprint.
        let number = value.as_deref().and_then(|value| value.split('.').next()?.parse().ok());
        Ok(number.map(Seq).filter(|seq| *seq <= Seq::MAX))
    }

    /// Reserves `count` new numbers above `above`, and returns the first one.
    ///
    /// # Errors
    /// Numbers may have been reserved; they are never used then.
    pub async fn take_above(
        &self,
        conversation: &Conversation,
        above: Seq,
        count: u32,
    ) -> Result<Seq, RedisError> {
        let arguments = vec![above.to_string(), count.to_string()];
        let last: u64 = self.client.script(&RAISE, vec![keys::seq(conversation)], arguments).await?;
        Ok(Seq(last + 1 - u64::from(count)))
    }

    /// Remembers the final number of a message, so that a retry returns it.
    ///
    /// # Errors
    /// Redis's; the number of a retry is then corrected at the commit.
    pub async fn remember(
        &self,
        conversation: &Conversation,
        sender: &UserId,
        msg_id: &MsgId,
        seq: Seq,
    ) -> Result<(), RedisError> {
        let (key, ttl_s) = (&keys::sent(conversation, sender, msg_id), i64::from(self.sent_ttl_s));
        let set = |redis: fred::clients::Client| async move {
            redis.set(key, seq.to_string(), Some(Expiration::EX(ttl_s)), None, false).await
        };
        self.client.at(key, set).await
    }
}

/// Parses the answer of the script for conversations with `counts` messages.
fn read(mut answer: &[i64], counts: impl Iterator<Item = usize>) -> Option<Vec<Numbers>> {
    let mut next = || {
        let (first, rest) = answer.split_first()?;
        answer = rest;
        Some(*first)
    };
    let mut all = Vec::with_capacity(counts.size_hint().0);
    for count in counts {
        let mark = next()?;
        if mark < 0 {
            all.push(Numbers::NoCounter);
            continue;
        }
        let mut numbers = Vec::with_capacity(count);
        for _ in 0..count {
            let number = next()?;
            let seq = Seq(number.unsigned_abs());
            numbers.push(match number {
                ..0 => AssignedNumber::Known(seq, Fingerprint::from_number(next()?)),
                _ => AssignedNumber::New(seq),
            });
        }
        all.push(Numbers::Assigned { jump: mark == 1, numbers });
    }
    next().is_none().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::fixture;

    #[test]
    fn an_answer_is_split_by_conversation() {
        let counts = || [3, 1, 1].into_iter();
        let assigned =
            |jump, numbers: &[AssignedNumber]| Numbers::Assigned { jump, numbers: numbers.to_vec() };
        let (new, known) = (|n| AssignedNumber::New(Seq(n)), |n, of| AssignedNumber::Known(Seq(n), of));
        let of = fixture::text("x").fingerprint();
        let print: i64 = of.to_string().parse().unwrap();
        let all = [
            assigned(false, &[new(7), known(3, None), known(4, Some(of))]),
            Numbers::NoCounter,
            assigned(true, &[new(1_001)]),
        ];
        assert_eq!(read(&[0, 7, -3, -1, -4, print, -1, 1, 1_001], counts()), Some(all.to_vec()));
        for broken in [
            &[0, 7, -3, -1, -4, print, -1, 1, 1_001, 5][..],
            &[0, 7, -3, -1, -4, print, -1, 1],
            &[0, 7, -3, -1, -4],
            &[0, 7, -3],
            &[],
        ] {
            assert_eq!(read(broken, counts()), None, "{broken:?}");
        }
    }
}
