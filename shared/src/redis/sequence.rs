//! Message numbers.

use std::sync::{Arc, LazyLock};

use fred::interfaces::KeysInterface as _;
use fred::types::Expiration;
use fred::types::scripts::Script;
use futures_util::future::join_all;

use super::client::{Client, RedisError};
use super::keys;
use crate::conversation::Conversation;
use crate::ids::{MsgId, Seq, UserId};

static NEXT: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/next_seq.lua")));
static RAISE: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/raise_seq.lua")));

/// Most messages of one call: Lua's `unpack` puts those of a conversation on its stack, which holds 8,000.
pub const MESSAGES_PER_CALL_MAX: usize = 4_000;

/// Where a missing counter begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The first number given out is one above.
    pub last: Seq,
    /// The conversation has messages already, so that the first number does not follow its last one directly.
    pub jump: bool,
}

/// Messages of one conversation that want numbers.
#[derive(Debug, Clone)]
pub struct Wanted<'m> {
    /// Which one.
    pub conversation: &'m Conversation,
    /// Sender and id of each, in order.
    pub messages: Vec<(&'m UserId, &'m MsgId)>,
    /// Where its counter begins if it is missing.
    pub floor: Option<Floor>,
}

/// The number of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Taken for it just now.
    New(Seq),
    /// It had one: this is a retry.
    Known(Seq),
}

/// Numbers for a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbers {
    /// Redis knows no counter for this conversation: find out where it ended, and ask again with a [`Floor`].
    NoCounter,
    /// One per message, in order.
    Given {
        /// The first new number follows a jump.
        jump: bool,
        /// As asked.
        numbers: Vec<Given>,
    },
}

/// Gives out numbers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sequence {
    client: Client,
    sent_ttl_s: u32,
}

impl Sequence {
    /// Remembers ids for `sent_ttl_s` seconds.
    #[must_use]
    pub fn new(client: Client, sent_ttl_s: u32) -> Self {
        Self { client, sent_ttl_s: sent_ttl_s.max(1) }
    }

    /// Numbers messages, at most [`MESSAGES_PER_CALL_MAX`] in all: in one call, because a call costs Redis and this
    /// process several times as much as a message in it. In a cluster, where conversations are on different servers, in
    /// one call for each. One answer for each of `wanted`, which are of different conversations.
    ///
    /// # Errors
    /// The numbers may have been taken all the same: asked again, the same ids get them.
    pub async fn next(&self, wanted: &[Wanted<'_>]) -> Vec<Result<Numbers, Arc<RedisError>>> {
        let together = self.client.keys_together(wanted.len()).max(1);
        let calls = wanted.chunks(together).map(|wanted| async move {
            match self.call(wanted).await {
                Ok(numbers) => numbers.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(Arc::new(error)); wanted.len()],
            }
        });
        // Started together, so that they go out in one write.
        join_all(calls).await.into_iter().flatten().collect()
    }

    async fn call(&self, wanted: &[Wanted<'_>]) -> Result<Vec<Numbers>, RedisError> {
        let mut script_keys = Vec::new();
        let mut arguments = vec![self.sent_ttl_s.to_string()];
        for Wanted { conversation, messages, floor } in wanted {
            script_keys.push(keys::seq(conversation));
            script_keys.extend(messages.iter().map(|(sender, id)| keys::sent(conversation, sender, id)));
            let (last, jump) = floor.map_or((String::new(), false), |f| (f.last.to_string(), f.jump));
            arguments.extend([messages.len().to_string(), last, u8::from(jump).to_string()]);
        }
        let answer: Vec<i64> = self.client.script(&NEXT, script_keys, arguments).await?;
        let counts = wanted.iter().map(|wanted| wanted.messages.len());
        read(&answer, counts)
            .ok_or_else(|| RedisError::Answer(format!("{} values for message numbers", answer.len())))
    }

    /// Takes `count` fresh numbers above `above`, and returns the first of them.
    ///
    /// # Errors
    /// Numbers may have been taken; they are never used then.
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

    /// Remembers the final number of a message, so that a retry is told this one.
    ///
    /// # Errors
    /// As Redis says; a retry is then put right at the commit.
    pub async fn remember(
        &self,
        conversation: &Conversation,
        sender: &UserId,
        msg_id: &MsgId,
        seq: Seq,
    ) -> Result<(), RedisError> {
        let key = keys::sent(conversation, sender, msg_id);
        let expiry = Some(Expiration::EX(i64::from(self.sent_ttl_s)));
        Ok(self.client.raw().set::<(), _, _>(key, seq.to_string(), expiry, None, false).await?)
    }
}

/// What the script said about conversations with so many messages each.
fn read(mut answer: &[i64], counts: impl Iterator<Item = usize>) -> Option<Vec<Numbers>> {
    let given = |number: &i64| match *number {
        known if known < 0 => Given::Known(Seq(known.unsigned_abs())),
        new => Given::New(Seq(new.unsigned_abs())),
    };
    let mut all = Vec::with_capacity(counts.size_hint().0);
    for count in counts {
        let (mark, rest) = answer.split_first()?;
        if *mark < 0 {
            all.push(Numbers::NoCounter);
            answer = rest;
            continue;
        }
        let (numbers, rest) = rest.split_at_checked(count)?;
        all.push(Numbers::Given { jump: *mark == 1, numbers: numbers.iter().map(given).collect() });
        answer = rest;
    }
    answer.is_empty().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_into_conversations() {
        let counts = || [2, 1, 1].into_iter();
        let given = |jump, numbers: &[Given]| Numbers::Given { jump, numbers: numbers.to_vec() };
        let (new, known) = (|n| Given::New(Seq(n)), |n| Given::Known(Seq(n)));
        let all = [given(false, &[new(7), known(3)]), Numbers::NoCounter, given(true, &[new(1_001)])];
        assert_eq!(read(&[0, 7, -3, -1, 1, 1_001], counts()), Some(all.to_vec()));
        for broken in [&[0, 7, -3, -1, 1, 1_001, 5][..], &[0, 7, -3, -1, 1], &[0, 7, -3], &[]] {
            assert_eq!(read(broken, counts()), None, "{broken:?}");
        }
    }
}
