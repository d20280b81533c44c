//! Numbers for a batch: from Redis, and from MySQL where Redis has forgotten a conversation.

use ahash::AHashMap;
use futures_util::future::join_all;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::mysql::{self, Pool};
use shared::redis::RedisError;
use shared::redis::sequence::{Floor, Given, Numbers, Sequence};

/// How far above the last committed number a lost counter begins again: more than a gateway has in flight for one
/// conversation in the time that a batch takes to be committed. Should it not be enough, two messages get the same
/// number, and the worker gives the second one another.
const RESEED_MARGIN: u64 = 1_000;

/// Why a conversation's messages got no numbers.
#[derive(Debug, thiserror::Error)]
pub(super) enum NumberError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("MySQL, asked for the last number: {0}")]
    Mysql(#[from] shared::mysql::Error),
    #[error("the counter vanished twice")]
    Vanished,
}

/// A number with its marks for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) seq: Seq,
    /// The numbers below, down to the last committed one, were never given out.
    pub(super) jump: bool,
    /// The id had this number already.
    pub(super) retry: bool,
}

/// Gives out numbers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Numbering {
    sequence: Sequence,
    pool: Pool,
}

impl Numbering {
    /// Numbers come from `sequence`, floors from `pool`.
    #[must_use]
    pub fn new(sequence: Sequence, pool: Pool) -> Self {
        Self { sequence, pool }
    }

    /// Numbers `messages`, rising in their order within each conversation; conversations fail one by one.
    pub(super) async fn number<'m>(
        &self,
        messages: impl Iterator<Item = (&'m Conversation, &'m UserId, &'m MsgId)>,
    ) -> Vec<Result<Number, std::sync::Arc<NumberError>>> {
        let mut of: AHashMap<&Conversation, Vec<(usize, &UserId, &MsgId)>> = AHashMap::new();
        let mut count = 0;
        for (index, (conversation, sender, msg_id)) in messages.enumerate() {
            of.entry(conversation).or_default().push((index, sender, msg_id));
            count = index + 1;
        }
        // Started together, so that fred sends them in one write.
        let asked = join_all(of.into_iter().map(|(conversation, messages)| async move {
            let numbers = self.number_one(conversation, &messages).await.map_err(std::sync::Arc::new);
            (messages, numbers)
        }));
        let mut out: Vec<_> = (0..count).map(|_| Err(std::sync::Arc::new(NumberError::Vanished))).collect();
        for (messages, numbers) in asked.await {
            for (place, (index, ..)) in messages.iter().enumerate() {
                out[*index] = match &numbers {
                    Ok(numbers) => {
                        numbers.get(place).copied().ok_or(std::sync::Arc::new(NumberError::Vanished))
                    }
                    Err(error) => Err(std::sync::Arc::clone(error)),
                };
            }
        }
        out
    }

    async fn number_one(
        &self,
        conversation: &Conversation,
        messages: &[(usize, &UserId, &MsgId)],
    ) -> Result<Vec<Number>, NumberError> {
        let ids = || messages.iter().map(|(_, sender, msg_id)| (*sender, *msg_id));
        let mut answer = self.sequence.next(conversation, ids(), None).await?;
        if answer == Numbers::NoCounter {
            let floor = self.floor(conversation).await?;
            answer = self.sequence.next(conversation, ids(), Some(floor)).await?;
        }
        let Numbers::Given { mut jump, numbers } = answer else { return Err(NumberError::Vanished) };
        let mark = |given| match given {
            // The first new number takes the mark.
            Given::New(seq) => Number { seq, jump: std::mem::take(&mut jump), retry: false },
            Given::Known(seq) => Number { seq, jump: false, retry: true },
        };
        Ok(numbers.into_iter().map(mark).collect())
    }

    async fn floor(&self, conversation: &Conversation) -> Result<Floor, NumberError> {
        let last = mysql::conversations::last_seq(&self.pool, conversation).await?;
        Ok(match last {
            None | Some(Seq::ZERO) => Floor { last: Seq::ZERO, jump: false },
            Some(Seq(last)) => {
                metrics::counter!(shared::metrics::GATEWAY_RESEEDED).increment(1);
                tracing::warn!(conversation.id = %conversation, last, "its counter is missing in Redis: seeding it again");
                Floor { last: Seq(last + RESEED_MARGIN), jump: true }
            }
        })
    }
}
