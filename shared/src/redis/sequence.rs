//! Message numbers.

use std::sync::LazyLock;

use fred::interfaces::KeysInterface as _;
use fred::types::Expiration;
use fred::types::scripts::Script;

use super::client::{Client, RedisError};
use super::keys;
use crate::conversation::Conversation;
use crate::ids::{MsgId, Seq, UserId};

static NEXT: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/next_seq.lua")));
static RAISE: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/raise_seq.lua")));

/// Most messages of one call: Lua's `unpack` puts them on its stack, which holds 8,000.
pub const MESSAGES_PER_CALL_MAX: usize = 4_000;

/// Where a missing counter begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The first number given out is one above.
    pub last: Seq,
    /// The conversation has messages already, so that the first number does not follow its last one directly.
    pub jump: bool,
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

    /// Numbers messages of one conversation, at most [`MESSAGES_PER_CALL_MAX`], in one round trip.
    ///
    /// # Errors
    /// The numbers may have been taken all the same: asked again, the same ids get them.
    pub async fn next(
        &self,
        conversation: &Conversation,
        messages: impl Iterator<Item = (&UserId, &MsgId)>,
        floor: Option<Floor>,
    ) -> Result<Numbers, RedisError> {
        let mut script_keys = vec![keys::seq(conversation)];
        script_keys.extend(messages.map(|(sender, id)| keys::sent(conversation, sender, id)));
        let asked = script_keys.len() - 1;
        let (last, jump) = floor.map_or((String::new(), false), |f| (f.last.to_string(), f.jump));
        let arguments = vec![self.sent_ttl_s.to_string(), last, u8::from(jump).to_string()];
        let answer: Vec<i64> = self.client.script(&NEXT, script_keys, arguments).await?;
        let Some((jump, numbers)) = answer.split_first() else { return Ok(Numbers::NoCounter) };
        if numbers.len() != asked {
            return Err(RedisError::Answer(format!("{} numbers for {asked} messages", numbers.len())));
        }
        let given = |number: &i64| match *number {
            known if known < 0 => Given::Known(Seq(known.unsigned_abs())),
            new => Given::New(Seq(new.unsigned_abs())),
        };
        Ok(Numbers::Given { jump: *jump == 1, numbers: numbers.iter().map(given).collect() })
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
