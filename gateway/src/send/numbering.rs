//! Sequence numbers for a batch: from Redis, seeded from MySQL where Redis has no counter for a conversation.

use std::future::Future;
use std::sync::Arc;

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::message::{MessageKind, Reuse};
use shared::mysql::{self, Pool};
use shared::redis::RedisError;
use shared::redis::sequence::{AssignedNumber, Floor, NumberRequest, Numbers, Sequence};

use super::admission::Admitted;
use super::reseed::RESEED_MARGIN;

/// Why the messages of a conversation got no sequence numbers.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NumberError {
    #[error(transparent)]
    Redis(#[from] Arc<RedisError>),
    #[error("reading the last sequence number from MySQL: {0}")]
    Mysql(Arc<mysql::Error>),
    #[error("the counter vanished from Redis twice")]
    Vanished,
    #[error("the message id was used for another message")]
    Reused,
}

/// A sequence number with its marks for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AssignedSeq {
    pub(super) seq: Seq,
    /// The numbers below, down to the last committed one, were never assigned.
    pub(super) jump: bool,
    /// The message had this number already.
    pub(super) retry: bool,
    /// It had another content then, which stays.
    pub(super) other_content: bool,
}

/// Assigns sequence numbers. A trait, so that a simulation needs no stores.
pub(crate) trait AssignSeqs: Send + Sync + 'static {
    /// One number for each message of `batch`, rising in their order within each conversation.
    fn assign(
        &self,
        batch: &[Admitted],
    ) -> impl Future<Output = Vec<Result<AssignedSeq, NumberError>>> + Send;
}

/// Assigns sequence numbers from Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Numbering {
    sequence: Sequence,
    pool: Pool,
}

impl Numbering {
    /// Numbers come from `sequence`, and where it has no counter, begin above the last one in `pool`.
    #[must_use]
    pub(crate) fn new(sequence: Sequence, pool: Pool) -> Self {
        Self { sequence, pool }
    }
}

impl AssignSeqs for Numbering {
    /// Messages of one conversation fail together, and with them those of others that were in the same call.
    async fn assign(&self, batch: &[Admitted]) -> Vec<Result<AssignedSeq, NumberError>> {
        let (mut wanted, mut places) = (Vec::new(), Vec::new());
        let mut index: AHashMap<&Conversation, usize> = AHashMap::new();
        for (place, Admitted { message, .. }) in batch.iter().enumerate() {
            let conversation = &message.conversation;
            let at = *index.entry(conversation).or_insert_with(|| {
                wanted.push(NumberRequest { conversation, messages: Vec::new(), floor: None });
                places.push(Vec::new());
                wanted.len() - 1
            });
            wanted[at].messages.push((&message.sender, &message.msg_id, message.kind.fingerprint()));
            places[at].push(place);
        }
        let mut out = vec![Err(NumberError::Vanished); batch.len()];
        for (places, numbers) in places.iter().zip(self.next(wanted).await) {
            match numbers {
                Ok(numbers) => {
                    for (place, number) in places.iter().zip(numbers) {
                        out[*place] = assigned(&batch[*place].message.kind, number);
                    }
                }
                Err(error) => places.iter().for_each(|place| out[*place] = Err(error.clone())),
            }
        }
        out
    }
}

impl Numbering {
    /// The numbers for each of `wanted`. Missing counters are created.
    async fn next(&self, wanted: Vec<NumberRequest<'_>>) -> Vec<Result<Vec<Marked>, NumberError>> {
        let mut answers = self.take(&wanted).await;
        let missing: Vec<usize> =
            (0..answers.len()).filter(|at| matches!(answers[*at], Ok(Numbers::NoCounter))).collect();
        if !missing.is_empty() {
            let lost = missing.iter().map(|at| wanted[*at].clone()).collect();
            for (at, answer) in missing.into_iter().zip(self.seed_and_take(lost).await) {
                answers[at] = answer;
            }
        }
        answers.into_iter().map(|answer| marked(answer?)).collect()
    }

    /// Seeds counters from MySQL, and takes numbers from them.
    async fn seed_and_take(&self, mut lost: Vec<NumberRequest<'_>>) -> Vec<Result<Numbers, NumberError>> {
        match self.floors(&lost).await {
            Ok(floors) => {
                for (wanted, floor) in lost.iter_mut().zip(floors) {
                    wanted.floor = Some(floor);
                }
                self.take(&lost).await
            }
            Err(error) => vec![Err(error); lost.len()],
        }
    }

    async fn take(&self, wanted: &[NumberRequest<'_>]) -> Vec<Result<Numbers, NumberError>> {
        let answers = self.sequence.next(wanted).await;
        answers.into_iter().map(|answer| answer.map_err(NumberError::Redis)).collect()
    }

    /// Where the counters of `lost` begin, in the same order.
    async fn floors(&self, lost: &[NumberRequest<'_>]) -> Result<Vec<Floor>, NumberError> {
        let conversations: Vec<&Conversation> = lost.iter().map(|wanted| wanted.conversation).collect();
        let last = mysql::conversations::last_seqs(&self.pool, &conversations).await;
        let last = last.map_err(|error| NumberError::Mysql(Arc::new(error)))?;
        let floor = |(conversation, last): (&Conversation, Seq)| match last {
            Seq::ZERO => Floor { last: Seq::ZERO, jump: false },
            Seq(last) => {
                metrics::counter!(shared::metrics::GATEWAY_RESEEDED).increment(1);
                tracing::warn!(
                    conversation.id = %conversation, last_seq = last,
                    "the conversation has no counter in Redis: seeding it from MySQL"
                );
                Floor { last: Seq(last + RESEED_MARGIN), jump: true }
            }
        };
        Ok(conversations.into_iter().zip(last).map(floor).collect())
    }
}

/// A number, and whether those below it, down to the last committed one, were never assigned.
type Marked = (AssignedNumber, bool);

/// The numbers of one conversation with their marks: the first new one takes the mark of the jump.
fn marked(numbers: Numbers) -> Result<Vec<Marked>, NumberError> {
    let Numbers::Assigned { mut jump, numbers } = numbers else { return Err(NumberError::Vanished) };
    let mark = |number| match number {
        AssignedNumber::New(_) => (number, std::mem::take(&mut jump)),
        AssignedNumber::Known(..) => (number, false),
    };
    Ok(numbers.into_iter().map(mark).collect())
}

/// The number of a message of this kind.
fn assigned(kind: &MessageKind, (number, jump): Marked) -> Result<AssignedSeq, NumberError> {
    match number {
        AssignedNumber::New(seq) => Ok(AssignedSeq { seq, jump, retry: false, other_content: false }),
        AssignedNumber::Known(seq, first) => {
            let reuse = first.map_or(Reuse::Retry, |first| kind.reuse_of(first));
            if reuse == Reuse::OtherMessage {
                return Err(NumberError::Reused);
            }
            Ok(AssignedSeq { seq, jump, retry: true, other_content: reuse == Reuse::OtherContent })
        }
    }
}
