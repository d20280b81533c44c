//! Merges identical requests that arrive at the same time.
//!
//! Each key is loaded by one flight at a time. Requests that arrive during a flight share the next one: a flight that has
//! begun is never joined, because it may have looked before the commit that the requester has already heard of. So merging
//! does not make a reply older, and a request that is alone does not wait. A flight that was shared is followed by a rest:
//! a thousand members of a group that reconnect at once are answered by few flights, which leave most of the time to
//! other requests.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use parking_lot::Mutex;
use shared::shutdown::Shutdown;
use tokio::sync::oneshot;

use crate::wire::api_error::ApiError;

/// The rest after a shared flight, as a multiple of the time that MySQL took: the more a flight costs, the more requests
/// share the next one.
const REST_FACTOR: u32 = 4;
/// The shortest and the longest rest.
const REST: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(50));

type Reply<T> = Result<T, ApiError>;

/// Loads the value of a key, for several requests or for one, and returns how long MySQL took.
type Load<K, T> = dyn Fn(K, bool) -> BoxFuture<'static, (Reply<T>, Duration)> + Send + Sync;

/// Handle to the flights.
pub(super) struct SingleFlight<K, T> {
    load: Box<Load<K, T>>,
    tasks: Shutdown,
    /// Keys that are being loaded or resting, each with its next flight if a request waits for it. There are at most as
    /// many as requests, which the caller limits.
    keys: Mutex<AHashMap<K, Option<Flight<T>>>>,
}

/// A flight that has not begun.
struct Flight<T> {
    done: oneshot::Sender<Reply<T>>,
    reply: Shared<oneshot::Receiver<Reply<T>>>,
    is_shared: bool,
}

impl<T: Clone> Flight<T> {
    fn new() -> Self {
        let (done, reply) = oneshot::channel();
        Self { done, reply: reply.shared(), is_shared: false }
    }
}

impl<K, T> fmt::Debug for SingleFlight<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").field("keys", &self.keys.lock().len()).finish_non_exhaustive()
    }
}

impl<K, T> SingleFlight<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Flights are run in tasks of `tasks`, so that a requester that is canceled does not end a flight for others.
    pub(super) fn new(load: Box<Load<K, T>>, tasks: Shutdown) -> Arc<Self> {
        Arc::new(Self { load, tasks, keys: Mutex::default() })
    }

    /// The value of `key`, loaded after this call began.
    pub(super) async fn load(self: &Arc<Self>, key: K) -> Reply<T> {
        let (reply, is_idle) = self.join(&key);
        if is_idle {
            let (tasks, flights) = (self.tasks.clone(), Arc::clone(self).run(key));
            self.tasks.spawn(async move { tasks.run_until_stopped(flights).await });
        }
        reply.await.unwrap_or(Err(ApiError::Internal))
    }

    /// The reply of the next flight of `key`, and whether no task runs the flights of this key yet.
    fn join(&self, key: &K) -> (Shared<oneshot::Receiver<Reply<T>>>, bool) {
        let mut keys = self.keys.lock();
        match keys.get_mut(key) {
            Some(Some(next)) => {
                metrics::counter!(shared::metrics::GATEWAY_READS_MERGED).increment(1);
                next.is_shared = true;
                (next.reply.clone(), false)
            }
            Some(none) => (none.insert(Flight::new()).reply.clone(), false),
            None => {
                let next = Flight::new();
                let reply = next.reply.clone();
                keys.insert(key.clone(), Some(next));
                (reply, true)
            }
        }
    }

    /// Runs the flights of a key until no request waits for one.
    async fn run(self: Arc<Self>, key: K) {
        // If a flight panics, the requests that wait for the next one are answered, and later ones start a new task.
        let on_panic = (Arc::clone(&self), key.clone());
        let _cleanup = scopeguard::guard(on_panic, |(this, key)| {
            if std::thread::panicking() {
                this.keys.lock().remove(&key);
            }
        });
        loop {
            // From here on no request joins this flight.
            let next = self.keys.lock().get_mut(&key).and_then(Option::take);
            let Some(flight) = next else { return };
            let (reply, elapsed) = (self.load)(key.clone(), flight.is_shared).await;
            let _ = flight.done.send(reply);
            if flight.is_shared {
                tokio::time::sleep((elapsed * REST_FACTOR).clamp(REST.0, REST.1)).await;
            }
            let mut keys = self.keys.lock();
            if keys.get(&key).is_none_or(Option::is_none) {
                keys.remove(&key);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    type Flights = Arc<SingleFlight<u64, String>>;

    #[tokio::test]
    async fn a_panic_fails_its_flight_and_no_later_one() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let load = move |key: u64, _: bool| -> BoxFuture<'static, (Reply<String>, Duration)> {
            let call = counter.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(call > 0, "a bug");
                (Ok(key.to_string()), Duration::ZERO)
            }
            .boxed()
        };
        let flights: Flights = SingleFlight::new(Box::new(load), Shutdown::new());
        assert!(matches!(flights.load(7).await, Err(ApiError::Internal)));
        let reply = tokio::time::timeout(Duration::from_secs(5), flights.load(7)).await;
        assert_eq!(reply.unwrap().unwrap(), "7");
    }

    /// Each flight reports its key, waits for a permit, and replies with the number of flights before it.
    fn flights() -> (Flights, mpsc::Receiver<u64>, Arc<Semaphore>) {
        let (report, started) = mpsc::channel(100);
        let (permits, count) = (Arc::new(Semaphore::new(0)), AtomicUsize::new(0));
        let acquired = Arc::clone(&permits);
        let load = move |key: u64, _| {
            let (report, acquired, before) =
                (report.clone(), Arc::clone(&acquired), count.fetch_add(1, Ordering::Relaxed));
            async move {
                report.send(key).await.unwrap();
                acquired.acquire().await.unwrap().forget();
                (Ok(before.to_string()), Duration::ZERO)
            }
            .boxed()
        };
        (SingleFlight::new(Box::new(load), Shutdown::new()), started, permits)
    }

    fn request(flights: &Flights, key: u64) -> tokio::task::JoinHandle<Reply<String>> {
        let flights = Arc::clone(flights);
        tokio::spawn(async move { flights.load(key).await })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_during_a_flight_share_the_next_one_and_other_keys_do_not_wait() {
        let (flights, mut started, permits) = flights();
        let first = request(&flights, 1);
        assert_eq!(started.recv().await, Some(1));
        let others: Vec<_> = (0..5).map(|_| request(&flights, 1)).collect();
        let another = request(&flights, 2);
        assert_eq!(started.recv().await, Some(2));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(started.try_recv().is_err(), "one flight per key at a time");
        // The first requester is canceled; the others are answered.
        others[0].abort();
        permits.add_permits(3);
        assert!(first.await.unwrap().is_ok() && another.await.unwrap().is_ok());
        for other in others.into_iter().skip(1) {
            assert_eq!(other.await.unwrap().unwrap(), "2", "a flight that began after the request");
        }
        assert_eq!(started.recv().await, Some(1));
        tokio::time::sleep(REST.1).await;
        assert!(flights.keys.lock().is_empty() && started.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shared_flight_is_followed_by_a_rest_and_a_single_one_is_not() {
        let (flights, mut started, permits) = flights();
        permits.add_permits(100);
        for _ in 0..3 {
            let now = tokio::time::Instant::now();
            request(&flights, 1).await.unwrap().unwrap();
            assert_eq!(now.elapsed(), Duration::ZERO);
        }
        // Both arrive before the flight begins.
        let (first, second) = (request(&flights, 1), request(&flights, 1));
        assert_eq!(first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        let now = tokio::time::Instant::now();
        request(&flights, 1).await.unwrap().unwrap();
        assert!(now.elapsed() >= REST.0, "{:?}", now.elapsed());
        let mut all = 0;
        while started.try_recv().is_ok() {
            all += 1;
        }
        assert_eq!(all, 5);
    }
}
