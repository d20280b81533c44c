//! Numbers for a batch: from Redis, and from MySQL where Redis has forgotten a conversation.

use std::sync::Arc;

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::mysql::{self, Pool};
use shared::redis::RedisError;
use shared::redis::sequence::{Floor, Given, Numbers, Sequence, Wanted};

/// How far above the last committed number a lost counter begins again: more than a gateway has in flight for one
/// conversation in the time that a batch takes to be committed. Should it not be enough, two messages get the same
/// number, and the worker gives the second one another.
const RESEED_MARGIN: u64 = 1_000;

/// Why a conversation's messages got no numbers.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum NumberError {
    #[error(transparent)]
    Redis(#[from] Arc<RedisError>),
    #[error("MySQL, asked for the last number: {0}")]
    Mysql(Arc<mysql::Error>),
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

    /// Numbers `messages`, rising in their order within each conversation. Those of one conversation fail together, and
    /// with them those of others that were in the same call.
    pub(super) async fn number<'m>(
        &self,
        messages: impl Iterator<Item = (&'m Conversation, &'m UserId, &'m MsgId)>,
    ) -> Vec<Result<Number, NumberError>> {
        let (mut wanted, mut places) = (Vec::new(), Vec::new());
        let mut of: AHashMap<&Conversation, usize> = AHashMap::new();
        let mut count = 0;
        for (place, (conversation, sender, msg_id)) in messages.enumerate() {
            let at = *of.entry(conversation).or_insert_with(|| {
                wanted.push(Wanted { conversation, messages: Vec::new(), floor: None });
                places.push(Vec::new());
                wanted.len() - 1
            });
            wanted[at].messages.push((sender, msg_id));
            places[at].push(place);
            count = place + 1;
        }
        let mut out = vec![Err(NumberError::Vanished); count];
        for (places, numbers) in places.iter().zip(self.next(wanted).await) {
            match numbers {
                Ok(numbers) => {
                    for (place, number) in places.iter().zip(numbers) {
                        out[*place] = Ok(number);
                    }
                }
                Err(error) => places.iter().for_each(|place| out[*place] = Err(error.clone())),
            }
        }
        out
    }

    /// The numbers for each of `wanted`, whose counters are made where they are missing.
    async fn next(&self, wanted: Vec<Wanted<'_>>) -> Vec<Result<Vec<Number>, NumberError>> {
        let mut answers = self.ask(&wanted).await;
        let missing: Vec<usize> =
            (0..answers.len()).filter(|at| matches!(answers[*at], Ok(Numbers::NoCounter))).collect();
        if !missing.is_empty() {
            let lost = missing.iter().map(|at| wanted[*at].clone()).collect();
            for (at, answer) in missing.into_iter().zip(self.ask_and_seed(lost).await) {
                answers[at] = answer;
            }
        }
        answers.into_iter().map(|answer| marked(answer?)).collect()
    }

    /// Asks again for what has no counter, and says where it begins.
    async fn ask_and_seed(&self, mut lost: Vec<Wanted<'_>>) -> Vec<Result<Numbers, NumberError>> {
        match self.floors(&lost).await {
            Ok(floors) => {
                for (wanted, floor) in lost.iter_mut().zip(floors) {
                    wanted.floor = Some(floor);
                }
                self.ask(&lost).await
            }
            Err(error) => vec![Err(error); lost.len()],
        }
    }

    async fn ask(&self, wanted: &[Wanted<'_>]) -> Vec<Result<Numbers, NumberError>> {
        let answers = self.sequence.next(wanted).await;
        answers.into_iter().map(|answer| answer.map_err(NumberError::Redis)).collect()
    }

    /// Where the counters of `lost` begin, in that order.
    async fn floors(&self, lost: &[Wanted<'_>]) -> Result<Vec<Floor>, NumberError> {
        let conversations: Vec<&Conversation> = lost.iter().map(|wanted| wanted.conversation).collect();
        let last = mysql::conversations::last_seqs(&self.pool, &conversations).await;
        let last = last.map_err(|error| NumberError::Mysql(Arc::new(error)))?;
        let floor = |(conversation, last): (&Conversation, Seq)| match last {
            Seq::ZERO => Floor { last: Seq::ZERO, jump: false },
            Seq(last) => {
                metrics::counter!(shared::metrics::GATEWAY_RESEEDED).increment(1);
                tracing::warn!(conversation.id = %conversation, last, "its counter is missing in Redis: seeding it again");
                Floor { last: Seq(last + RESEED_MARGIN), jump: true }
            }
        };
        Ok(conversations.into_iter().zip(last).map(floor).collect())
    }
}

/// The numbers of one conversation with their marks.
fn marked(numbers: Numbers) -> Result<Vec<Number>, NumberError> {
    let Numbers::Given { mut jump, numbers } = numbers else { return Err(NumberError::Vanished) };
    let mark = |given| match given {
        // The first new number takes the mark.
        Given::New(seq) => Number { seq, jump: std::mem::take(&mut jump), retry: false },
        Given::Known(seq) => Number { seq, jump: false, retry: true },
    };
    Ok(numbers.into_iter().map(mark).collect())
}
