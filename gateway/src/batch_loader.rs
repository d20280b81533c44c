//! Loads values for many keys with one query.
//!
//! A limited number of batches is loaded at a time. Keys that are requested meanwhile wait and form the next batch, first
//! in, first out. A batch never answers a request that was made after it began, because it may have looked before the
//! commit that the requester has already heard of.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use shared::permits::Permits;
use shared::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::wire::api_error::ApiError;

/// Loads the values of a batch of keys, in their order.
pub(crate) type LoadBatch<K, T> =
    dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<T>, ApiError>> + Send + Sync;

/// How keys become batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchPolicy {
    /// Batches that are loaded at the same time.
    pub(crate) concurrency: usize,
    /// Keys of one batch.
    pub(crate) batch_max: usize,
    /// Requests that may wait beside `concurrency` others. Further ones get `overloaded` at once.
    pub(crate) waiting_max: usize,
    /// The answer to a request for which there is no room.
    pub(crate) overloaded: fn() -> ApiError,
    /// The time between the starts of a batch and the next one, by the number of keys of the first.
    pub(crate) pause_after: fn(usize) -> Duration,
}

/// Handle to the batch loader.
pub(crate) struct BatchLoader<K, T> {
    policy: BatchPolicy,
    load: Box<LoadBatch<K, T>>,
    tasks: Shutdown,
    /// One permit per request that waits or is being answered.
    room: Permits,
    /// One permit per batch that is being loaded.
    loading: Permits,
    queue: Mutex<Queue<K, T>>,
}

struct Queue<K, T> {
    waiting: VecDeque<Request<K, T>>,
    /// No batch begins before.
    pause_ends: Instant,
}

struct Request<K, T> {
    key: K,
    reply: oneshot::Sender<Result<T, ApiError>>,
}

impl<K, T> fmt::Debug for BatchLoader<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchLoader").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl<K, T> BatchLoader<K, T> {
    /// The number of requests that wait for the next batch.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }
}

impl<K: Send + 'static, T: Send + 'static> BatchLoader<K, T> {
    /// Batches are loaded in tasks of `tasks`, so that a requester that is canceled cancels no one else's batch.
    pub(crate) fn new(policy: BatchPolicy, load: Box<LoadBatch<K, T>>, tasks: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            policy,
            load,
            tasks,
            room: Permits::new(policy.concurrency + policy.waiting_max),
            loading: Permits::new(policy.concurrency),
            queue: Mutex::new(Queue { waiting: VecDeque::new(), pause_ends: Instant::now() }),
        })
    }

    /// Changes how many batches are loaded at the same time, and how many requests may wait beside.
    pub(crate) fn resize(&self, concurrency: usize, waiting_max: usize, tasks: &Shutdown) {
        self.loading.resize(concurrency, tasks);
        self.room.resize(concurrency + waiting_max, tasks);
    }

    /// The value of `key`, loaded after this call began.
    ///
    /// # Errors
    /// `overloaded` of the policy, or the error of the batch.
    pub(crate) async fn load(self: &Arc<Self>, key: K) -> Result<T, ApiError> {
        let _room = self.room.semaphore().try_acquire().map_err(|_| (self.policy.overloaded)())?;
        let (reply, mut replied) = oneshot::channel();
        self.queue.lock().waiting.push_back(Request { key, reply });
        tokio::select! {
            biased;
            reply = &mut replied => reply.unwrap_or(Err(ApiError::Internal)),
            () = self.start_batches() => replied.await.unwrap_or(Err(ApiError::Internal)),
        }
    }

    /// Starts batches, at most `concurrency` at a time, until no request waits.
    async fn start_batches(self: &Arc<Self>) {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(self.loading.semaphore()).acquire_owned().await else { return };
            let pause_ends = self.queue.lock().pause_ends;
            if pause_ends > Instant::now() {
                sleep_until(pause_ends).await;
            }
            let batch = self.take_batch();
            if batch.is_empty() {
                return;
            }
            let loading = Arc::clone(self).load_batch(batch, permit);
            let tasks = self.tasks.clone();
            self.tasks.spawn(async move { tasks.run_until_stopped(loading).await });
        }
    }

    /// The oldest requests whose requesters still wait.
    fn take_batch(&self) -> Vec<Request<K, T>> {
        let mut queue = self.queue.lock();
        let mut batch = Vec::new();
        while batch.len() < self.policy.batch_max {
            let Some(request) = queue.waiting.pop_front() else { break };
            if !request.reply.is_closed() {
                batch.push(request);
            }
        }
        if !batch.is_empty() {
            queue.pause_ends = Instant::now() + (self.policy.pause_after)(batch.len());
        }
        batch
    }

    async fn load_batch(self: Arc<Self>, batch: Vec<Request<K, T>>, _permit: OwnedSemaphorePermit) {
        let (keys, replies): (Vec<K>, Vec<_>) =
            batch.into_iter().map(|request| (request.key, request.reply)).unzip();
        match (self.load)(keys).await {
            Ok(values) => {
                for (reply, value) in replies.into_iter().zip(values) {
                    let _ = reply.send(Ok(value));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}
