//! A pool that keeps its connections at hand.
//!
//! sqlx pings a connection each time that it is given back (and, if asked to, each time that it is taken): a read costs
//! three round trips instead of one. Here a connection whose work has come to its end stays at hand, and the next one who
//! needs a connection takes it as it is.
//!
//! That is safe only if nothing of an earlier answer is left in it. A ping or a `PREPARE` of sqlx 0.9.0 that is cancelled
//! leaves its answer behind, and whatever is asked next reads that as its own: a page of messages may then be another
//! page, or empty. So a connection whose user went away in the middle, or that failed, is closed and never used again.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use scopeguard::ScopeGuard;
use sqlx::mysql::{
    MySqlConnectOptions, MySqlConnection, MySqlQueryResult, MySqlRow, MySqlStatement, MySqlTypeInfo,
};
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, Either, Execute, Executor, MySql, MySqlPool, SqlStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::pool::Ping;

/// A connection that was used so lately is taken as it is; an older one is asked first, if the pool was made so.
const FRESH: Duration = Duration::from_secs(1);
/// A connection is given back to sqlx after so long, which has its own rules about age, and sees to idle ones.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Connections to one schema. Cheap to clone. A query can be run on it directly, as on sqlx's own pool.
#[derive(Debug, Clone)]
pub struct Pool {
    all: MySqlPool,
    ping: Ping,
    /// Places for those who use a connection: whoever has one finds a spare connection, or room in `all` to make one.
    places: Arc<Semaphore>,
    /// The one used last at the end.
    spare: Arc<Mutex<Vec<Spare>>>,
}

#[derive(Debug)]
struct Spare {
    connection: PoolConnection<MySql>,
    kept_since: Instant,
    used: Instant,
}

impl Spare {
    /// Closes it, unless the guard is taken off.
    fn guarded(self) -> ScopeGuard<Self, fn(Self)> {
        scopeguard::guard(self, |spare| drop(spare.connection.detach()))
    }
}

impl Pool {
    /// With a database that nobody answers at: every query fails. For tests of what asks it nothing.
    #[must_use]
    pub fn unconnected() -> Self {
        let nobody = MySqlConnectOptions::new().host("127.0.0.1").port(9);
        Self::new(MySqlPool::connect_lazy_with(nobody), Ping::Never)
    }

    /// Keeps connections of `all` at hand.
    pub(super) fn new(all: MySqlPool, ping: Ping) -> Self {
        let places = usize::try_from(all.options().get_max_connections()).unwrap_or(usize::MAX);
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { all, ping, places, spare: Arc::default() }
    }

    /// The pool behind, for connections that are not to be kept: because they hold a lock, for instance.
    #[must_use]
    pub fn unkept(&self) -> &MySqlPool {
        &self.all
    }

    /// A connection of one's own for a while. Say [`done`](Connection::done) at the end.
    ///
    /// # Errors
    /// There is none, and none could be made in time.
    pub async fn acquire(&self) -> sqlx::Result<Connection> {
        let waiting =
            timeout(self.all.options().get_acquire_timeout(), Arc::clone(&self.places).acquire_owned());
        let place =
            waiting.await.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            let spare = self.spare.lock().pop();
            let Some(mut spare) = spare.map(Spare::guarded) else { break };
            let usable = self.ping == Ping::Never || spare.used.elapsed() < FRESH;
            if usable || spare.connection.ping().await.is_ok() {
                return Ok(Connection { pool: self.clone(), lent: spare, place });
            }
        }
        let connection = self.all.acquire().await?;
        let now = Instant::now();
        let lent = Spare { connection, kept_since: now, used: now }.guarded();
        Ok(Connection { pool: self.clone(), lent, place })
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.places.close();
        self.spare.lock().clear();
        self.all.close().await;
    }

    fn keep(&self, mut lent: Spare) {
        lent.used = Instant::now();
        let is_old = |since: Instant| lent.used.duration_since(since) > KEPT_FOR;
        if is_old(lent.kept_since) || self.all.is_closed() {
            return;
        }
        let retired = {
            let mut spare = self.spare.lock();
            // One that nobody has needed for so long stands in front.
            let retired = spare.first().is_some_and(|first| is_old(first.used)).then(|| spare.remove(0));
            spare.push(lent);
            retired
        };
        drop(retired);
    }
}

/// A connection that was taken out of a [`Pool`]. Closed when it is dropped.
pub struct Connection {
    pool: Pool,
    lent: ScopeGuard<Spare, fn(Spare)>,
    place: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Passes on how a query on it ended. If it did well, or the server said why not, the connection is at hand for the
    /// next one.
    ///
    /// # Errors
    /// The one that is passed on.
    pub fn done<T>(self, ended: sqlx::Result<T>) -> sqlx::Result<T> {
        if matches!(ended, Ok(_) | Err(sqlx::Error::Database(_))) {
            self.keep();
        }
        ended
    }

    /// Takes it out of the pool for good, for what holds longer than a query: a lock, for instance.
    pub(super) fn detach(self) -> MySqlConnection {
        ScopeGuard::into_inner(self.lent).connection.detach()
    }

    /// At hand for the next one: no query is running on it, and no transaction is open.
    pub(super) fn keep(self) {
        let Self { pool, lent, place } = self;
        pool.keep(ScopeGuard::into_inner(lent));
        drop(place);
    }
}

impl Deref for Connection {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.lent.connection
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.lent.connection
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = MySql;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<MySqlQueryResult>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        async move {
            let mut connection = self.acquire().await?;
            let ended = connection.execute(query).await;
            connection.done(ended)
        }
        .boxed()
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Vec<MySqlRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        async move {
            let mut connection = self.acquire().await?;
            let ended = connection.fetch_all(query).await;
            connection.done(ended)
        }
        .boxed()
    }

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<MySqlQueryResult, MySqlRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let all = async move {
            let mut connection = self.acquire().await?;
            let ended = connection.fetch_many(query).try_collect::<Vec<_>>().await;
            let all = connection.done(ended)?;
            Ok::<_, sqlx::Error>(futures_util::stream::iter(all.into_iter().map(Ok)))
        };
        futures_util::stream::once(all).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<MySqlRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        async move {
            let mut connection = self.acquire().await?;
            let ended = connection.fetch_optional(query).await;
            connection.done(ended)
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [MySqlTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<MySqlStatement>>
    where
        'p: 'e,
    {
        async move {
            let mut connection = self.acquire().await?;
            let ended = connection.prepare_with(sql, parameters).await;
            connection.done(ended)
        }
        .boxed()
    }
}
