//! A connection pool that does not ping.
//!
//! sqlx pings a connection each time it is returned (and, if configured, each time it is acquired), so that a read costs
//! three round trips instead of one. This pool keeps a connection whose work has ended, and the next caller uses it as it
//! is.
//!
//! That is safe only if no part of an earlier answer is left in the connection. A ping or a `PREPARE` of sqlx 0.9.0 that is
//! cancelled leaves its answer behind, and the next query reads that answer as its own: a page of messages may then be
//! another page, or empty. A connection whose caller was cancelled, or that failed, is therefore closed and never reused.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use scopeguard::ScopeGuard;
use sqlx::mysql::{MySqlConnection, MySqlQueryResult, MySqlRow, MySqlStatement, MySqlTypeInfo};
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, Either, Execute, Executor, MySql, MySqlPool, SqlStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A connection that was idle for longer is pinged before use, with [`Ping::BeforeUse`].
const IDLE_MAX_WITHOUT_PING: Duration = Duration::from_secs(1);
/// A connection is returned to sqlx after this time; sqlx closes connections that are old or idle.
const KEPT_MAX: Duration = Duration::from_secs(60);

/// Whether a connection that was idle for a while is pinged before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// It is pinged after a second of idleness: one more round trip, but a connection that was lost fails no request.
    BeforeUse,
    /// It is not pinged: for a caller that retries in any case.
    Never,
}

/// Connections to one schema. Cheap to clone. Queries run on it directly, as on sqlx's own pool.
#[derive(Debug, Clone)]
pub struct Pool {
    sqlx_pool: MySqlPool,
    ping: Ping,
    /// One permit per connection: its holder finds an idle connection, or room in `sqlx_pool` for a new one.
    permits: Arc<Semaphore>,
    /// The most recently used one at the end.
    idle: Arc<Mutex<Vec<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    connection: PoolConnection<MySql>,
    kept_since: Instant,
    last_used: Instant,
}

impl Kept {
    /// Closes the connection, unless the guard is removed.
    fn guarded(self) -> ScopeGuard<Self, fn(Self)> {
        scopeguard::guard(self, |kept| drop(kept.connection.detach()))
    }
}

impl Pool {
    /// Keeps connections of `sqlx_pool`.
    pub(super) fn new(sqlx_pool: MySqlPool, ping: Ping) -> Self {
        let connections_max =
            usize::try_from(sqlx_pool.options().get_max_connections()).unwrap_or(usize::MAX);
        let permits = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Self { sqlx_pool, ping, permits, idle: Arc::default() }
    }

    /// The pool of sqlx, for connections that must not be kept, for example because they hold a lock.
    #[must_use]
    pub fn sqlx_pool(&self) -> &MySqlPool {
        &self.sqlx_pool
    }

    /// Acquires a connection for exclusive use. Call [`finish`](Connection::finish) at the end, or it is closed.
    ///
    /// # Errors
    /// No connection was free, or could be made, within the acquire timeout.
    pub async fn acquire(&self) -> sqlx::Result<Connection> {
        let waiting = timeout(
            self.sqlx_pool.options().get_acquire_timeout(),
            Arc::clone(&self.permits).acquire_owned(),
        );
        let permit =
            waiting.await.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            let kept = self.idle.lock().pop();
            let Some(mut kept) = kept.map(Kept::guarded) else { break };
            let usable = self.ping == Ping::Never || kept.last_used.elapsed() < IDLE_MAX_WITHOUT_PING;
            if usable || kept.connection.ping().await.is_ok() {
                return Ok(Connection { pool: self.clone(), kept, permit });
            }
        }
        let connection = self.sqlx_pool.acquire().await?;
        let now = Instant::now();
        let kept = Kept { connection, kept_since: now, last_used: now }.guarded();
        Ok(Connection { pool: self.clone(), kept, permit })
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
        self.sqlx_pool.close().await;
    }

    fn release(&self, mut kept: Kept) {
        kept.last_used = Instant::now();
        let is_old = |since: Instant| kept.last_used.duration_since(since) > KEPT_MAX;
        if is_old(kept.kept_since) || self.sqlx_pool.is_closed() {
            return;
        }
        let retired = {
            let mut idle = self.idle.lock();
            // The least recently used one is the first.
            let retired = idle.first().is_some_and(|first| is_old(first.last_used)).then(|| idle.remove(0));
            idle.push(kept);
            retired
        };
        drop(retired);
    }
}

/// A connection that was acquired from a [`Pool`]. It is closed when it is dropped.
pub struct Connection {
    pool: Pool,
    kept: ScopeGuard<Kept, fn(Kept)>,
    permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Returns the result of a query on this connection. After a success, or an error that the server reported, the
    /// connection is released for the next caller.
    ///
    /// # Errors
    /// The error in `ended`.
    pub fn finish<T>(self, ended: sqlx::Result<T>) -> sqlx::Result<T> {
        if matches!(ended, Ok(_) | Err(sqlx::Error::Database(_))) {
            self.release();
        }
        ended
    }

    /// Removes the connection from the pool, for a state that outlives a query, for example a lock.
    pub(super) fn detach(self) -> MySqlConnection {
        ScopeGuard::into_inner(self.kept).connection.detach()
    }

    /// Releases the connection for the next caller: no query is running on it, and no transaction is open.
    pub(super) fn release(self) {
        let Self { pool, kept, permit } = self;
        pool.release(ScopeGuard::into_inner(kept));
        drop(permit);
    }
}

impl Deref for Connection {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.kept.connection
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.kept.connection
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
            connection.finish(ended)
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
            connection.finish(ended)
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
            let all = connection.finish(ended)?;
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
            connection.finish(ended)
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
            connection.finish(ended)
        }
        .boxed()
    }
}
