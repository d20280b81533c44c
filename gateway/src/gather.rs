//! Questions to the database that are asked together.
//!
//! A few reads run at once; what is asked meanwhile gathers, and the next read is about all of it. A read never answers
//! what was asked after it began, for it may have looked before the commit that the newcomer has already been told about.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::wire::api_error::ApiError;

/// Answers all of these, in their order.
pub(crate) type Read<K, T> = dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<T>, ApiError>> + Send + Sync;

/// How questions gather.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// Reads that may run.
    pub(crate) at_once: usize,
    /// Questions that one read may be about.
    pub(crate) together: usize,
    /// From a read about so many to the next one.
    pub(crate) pause_after: fn(usize) -> Duration,
}

/// The entrance. Whoever comes first is first.
pub(crate) struct Gathered<K, T> {
    read: Box<Read<K, T>>,
    turns: Arc<Semaphore>,
    how: How,
    queue: Mutex<Queue<K, T>>,
}

struct Queue<K, T> {
    waiting: VecDeque<Waiting<K, T>>,
    /// Nobody asks before then.
    pause_ends: Instant,
}

struct Waiting<K, T> {
    about: K,
    answer: oneshot::Sender<Result<T, ApiError>>,
}

impl<K, T> fmt::Debug for Gathered<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl<K, T> Gathered<K, T> {
    /// How many questions wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }
}

impl<K: Send + 'static, T: Send + 'static> Gathered<K, T> {
    pub(crate) fn new(how: How, read: Box<Read<K, T>>) -> Arc<Self> {
        Arc::new(Self {
            read,
            turns: Arc::new(Semaphore::new(how.at_once)),
            how,
            queue: Mutex::new(Queue { waiting: VecDeque::new(), pause_ends: Instant::now() }),
        })
    }

    /// The answer about `about`, read after this call began.
    ///
    /// # Errors
    /// What the read says.
    pub(crate) async fn ask(self: &Arc<Self>, about: K) -> Result<T, ApiError> {
        let (answer, mut answered) = oneshot::channel();
        self.queue.lock().waiting.push_back(Waiting { about, answer });
        loop {
            let turn = tokio::select! {
                biased;
                answer = &mut answered => return answer.unwrap_or(Err(ApiError::Internal)),
                turn = Arc::clone(&self.turns).acquire_owned() => turn,
            };
            // Never closed.
            let Ok(turn) = turn else { return Err(ApiError::Internal) };
            let pause_ends = self.queue.lock().pause_ends;
            if pause_ends > Instant::now() {
                tokio::select! {
                    biased;
                    answer = &mut answered => return answer.unwrap_or(Err(ApiError::Internal)),
                    () = sleep_until(pause_ends) => {}
                }
            }
            let asking = self.take();
            if asking.is_empty() {
                // Another's read is about this too.
                drop(turn);
                return answered.await.unwrap_or(Err(ApiError::Internal));
            }
            // A task of its own: should this client go away, the others still wait.
            tokio::spawn(Arc::clone(self).answer(asking, turn));
        }
    }

    /// Those who wait longest, without those who gave up.
    fn take(&self) -> Vec<Waiting<K, T>> {
        let mut queue = self.queue.lock();
        let mut asking = Vec::new();
        while asking.len() < self.how.together {
            let Some(next) = queue.waiting.pop_front() else { break };
            if !next.answer.is_closed() {
                asking.push(next);
            }
        }
        if !asking.is_empty() {
            queue.pause_ends = Instant::now() + (self.how.pause_after)(asking.len());
        }
        asking
    }

    async fn answer(self: Arc<Self>, asking: Vec<Waiting<K, T>>, _turn: OwnedSemaphorePermit) {
        let (about, answers): (Vec<K>, Vec<_>) =
            asking.into_iter().map(|one| (one.about, one.answer)).unzip();
        match (self.read)(about).await {
            Ok(all) => {
                for (answer, read) in answers.into_iter().zip(all) {
                    let _ = answer.send(Ok(read));
                }
            }
            Err(refusal) => {
                for answer in answers {
                    let _ = answer.send(Err(refusal.clone()));
                }
            }
        }
    }
}
