//! A connection pool that does not ping.
//!
//! sqlx pings a connection each time it is returned (and, if configured, each time it is acquired), so that a read costs
//! three round trips instead of one. This pool keeps a connection whose work has ended, and the next caller uses it as it
//! is.
//!
//! That is safe only if no part of an earlier answer is left in the connection. A ping or a `PREPARE` of sqlx 0.9.0 that is
//! cancelled leaves its answer behind, and the next query reads that answer as its own: a page of messages may then be
//! another page, or empty. A connection whose caller was cancelled, or that failed, is therefore closed and never reused.
//!
//! sqlx sets neither a timeout on an answer nor keep-alive on the socket, so every wait for an answer has a timeout here,
//! after which the connection is closed without waiting for the server. Connections are not returned to sqlx, because its
//! ping of a returned connection has no timeout.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use scopeguard::ScopeGuard;
use sqlx::mysql::MySqlConnection;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySql, MySqlPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::fault::Fault;
use super::read_only::require_writable;

/// A connection that was idle for longer is pinged before use, with [`Ping::BeforeUse`].
const IDLE_MAX_WITHOUT_PING: Duration = Duration::from_secs(1);
/// A connection that was idle for longer is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// An older connection is closed: the address may lead to another server by now.
const AGE_MAX: Duration = Duration::from_secs(300);
/// Connections that are younger survive when all older ones are closed: while the address leads to a server that cannot
/// serve, connections are not opened again for each statement.
const GIVE_UP_INTERVAL: Duration = Duration::from_secs(1);
/// How often giving up all connections is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Longest that the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest that the server may take to close a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// A connection that was idle is pinged: one more round trip, but a connection that was lost fails no request.
    BeforeUse,
    /// It is not pinged: for a caller that retries in any case. That caller writes, so connections to a read-only server
    /// are refused.
    Never,
}

/// Connections to one schema. Cheap to clone. Queries run on it directly, as on sqlx's own pool.
#[derive(Debug, Clone)]
pub struct Pool {
    sqlx_pool: MySqlPool,
    ping: Ping,
    /// For an answer to a statement, and for a whole transaction.
    timeout: Duration,
    /// One permit per connection: its holder finds an idle connection, or room in `sqlx_pool` for a new one.
    permits: Arc<Semaphore>,
    /// The most recently used one at the end.
    idle: Arc<Mutex<Vec<Kept>>>,
    given_up: Arc<Mutex<GivenUp>>,
}

#[derive(Debug, Default)]
struct GivenUp {
    /// Connections that were opened before are closed.
    before: Option<Instant>,
    logged: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    connection: PoolConnection<MySql>,
    opened: Instant,
    last_used: Instant,
    /// A transaction without statements is open on it.
    begun: bool,
}

impl Kept {
    /// Closes the connection, unless the guard is removed.
    fn guarded(self) -> ScopeGuard<Self, fn(Self)> {
        scopeguard::guard(self, |kept| drop(kept.connection.detach()))
    }

    /// Closes the connection in order, in the background.
    fn close(self) {
        let connection = self.connection.detach();
        #[expect(clippy::disallowed_methods, reason = "the task ends after its timeout")]
        tokio::spawn(timeout(CLOSE_TIMEOUT, connection.close()));
    }
}

impl Pool {
    /// Keeps connections of `sqlx_pool`.
    pub(super) fn new(sqlx_pool: MySqlPool, ping: Ping, timeout: Duration) -> Self {
        let connections_max =
            usize::try_from(sqlx_pool.options().get_max_connections()).unwrap_or(usize::MAX);
        let permits = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        let (idle, given_up) = Default::default();
        Self { sqlx_pool, ping, timeout, permits, idle, given_up }
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
        let mut connection = self.acquire_any().await?;
        if std::mem::take(&mut connection.kept.begun) {
            self.bounded(connection.execute("ROLLBACK")).await?;
        }
        Ok(connection)
    }

    /// Acquires a connection on which the first call is [`begin`](Connection::begin).
    pub(super) async fn acquire_any(&self) -> sqlx::Result<Connection> {
        let waiting = timeout(
            self.sqlx_pool.options().get_acquire_timeout(),
            Arc::clone(&self.permits).acquire_owned(),
        );
        let Ok(permit) = waiting.await else {
            metrics::counter!(crate::metrics::MYSQL_POOL_TIMEOUTS).increment(1);
            return Err(sqlx::Error::PoolTimedOut);
        };
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            let kept = self.idle.lock().pop();
            let Some(kept) = kept else { break };
            if self.is_outdated(&kept) {
                kept.close();
                continue;
            }
            let mut kept = kept.guarded();
            let usable = self.ping == Ping::Never || kept.last_used.elapsed() < IDLE_MAX_WITHOUT_PING;
            let pinged = match usable {
                true => Ok(Ok(())),
                false => timeout(PING_TIMEOUT, kept.connection.ping()).await,
            };
            match pinged {
                Ok(Ok(())) => return Ok(Connection { pool: self.clone(), kept, permit }),
                Ok(Err(_)) => {}
                Err(_) => self.give_up(kept.opened, &no_answer_within(PING_TIMEOUT)),
            }
        }
        let now = Instant::now();
        let kept =
            Kept { connection: self.sqlx_pool.acquire().await?, opened: now, last_used: now, begun: false }
                .guarded();
        let mut connection = Connection { pool: self.clone(), kept, permit };
        if self.ping == Ping::Never {
            self.bounded(require_writable(&mut connection)).await?;
        }
        Ok(connection)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
        self.sqlx_pool.close().await;
    }

    /// Sets the gauges of the pool.
    #[expect(clippy::cast_precision_loss, reason = "the number of connections is far below 2^52")]
    pub(super) fn report(&self) {
        let limit = usize::try_from(self.sqlx_pool.options().get_max_connections()).unwrap_or(usize::MAX);
        let in_use = limit.saturating_sub(self.permits.available_permits());
        let state = |state| metrics::gauge!(crate::metrics::MYSQL_CONNECTIONS, "state" => state);
        state("in_use").set(in_use as f64);
        state("idle").set(self.idle.lock().len() as f64);
        metrics::gauge!(crate::metrics::MYSQL_CONNECTIONS_LIMIT).set(limit as f64);
    }

    /// Longest that a statement or a transaction may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The error of a statement that took longer.
    pub(super) fn timeout_error(&self) -> sqlx::Error {
        no_answer_within(self.timeout)
    }

    /// Waits for an answer, at most for the timeout. The connection must be dropped after an error.
    pub(super) async fn bounded<T>(&self, answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        timeout(self.timeout, answer).await.unwrap_or_else(|_| Err(self.timeout_error()))
    }

    fn is_outdated(&self, kept: &Kept) -> bool {
        kept.opened.elapsed() > AGE_MAX
            || kept.last_used.elapsed() > IDLE_MAX
            || self.given_up.lock().before.is_some_and(|before| kept.opened < before)
    }

    fn release(&self, mut kept: Kept) {
        kept.last_used = Instant::now();
        if self.is_outdated(&kept) || self.sqlx_pool.is_closed() {
            kept.close();
            return;
        }
        let retired = {
            let mut idle = self.idle.lock();
            // The least recently used one is the first.
            let is_old = idle.first().is_some_and(|first| self.is_outdated(first));
            let retired = is_old.then(|| idle.remove(0));
            idle.push(kept);
            retired
        };
        if let Some(retired) = retired {
            retired.close();
        }
    }

    /// Closes all connections that are older than a second, because a connection that was `opened` then leads to a server
    /// that cannot serve.
    fn give_up(&self, opened: Instant, error: &sqlx::Error) {
        let now = Instant::now();
        if now.duration_since(opened) < GIVE_UP_INTERVAL {
            return;
        }
        let mut given_up = self.given_up.lock();
        if given_up.before.is_some_and(|before| opened < before) {
            // Of the connections that are given up, another one has failed.
            return;
        }
        given_up.before = Some(now);
        metrics::counter!(crate::metrics::STORE_RECONNECTS, "store" => "mysql").increment(1);
        if given_up.logged.is_none_or(|logged| now.duration_since(logged) > LOG_INTERVAL) {
            given_up.logged = Some(now);
            tracing::warn!(%error, "MySQL cannot serve ({error}); all connections to it are closed and opened again");
        }
    }
}

pub(super) fn no_answer_within(time: Duration) -> sqlx::Error {
    let text = format!("no answer within {} s", time.as_secs_f32());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
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
    /// Returns the result of a query on this connection. After a success, or an answer of the server to the statement, the
    /// connection is released for the next caller. After an error that concerns the connection or the server, it is
    /// closed, and in the latter case all others too.
    ///
    /// # Errors
    /// The error in `ended`.
    pub fn finish<T>(self, ended: sqlx::Result<T>) -> sqlx::Result<T> {
        match &ended {
            Ok(_) => self.release(),
            Err(error @ sqlx::Error::Database(_)) => self.release_after(Some(error)),
            Err(error) => self.close_after(Some(error)),
        }
        ended
    }

    /// Begins a transaction, unless the end of the last one has.
    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        if !std::mem::take(&mut self.kept.begun) {
            self.execute("BEGIN").await?;
        }
        Ok(())
    }

    /// Commits with what `request` makes of the statement that commits. Where transactions follow one another, that statement
    /// begins the next one: one round trip less. The next one locks nothing, and has no snapshot, before its first statement.
    pub(super) async fn commit(
        &mut self,
        request: impl FnOnce(&str) -> sqlx::Result<String>,
    ) -> sqlx::Result<()> {
        let chains = self.pool.ping == Ping::Never;
        let request = request(if chains { "COMMIT AND CHAIN" } else { "COMMIT" })?;
        self.execute(sqlx::raw_sql(AssertSqlSafe(request))).await?;
        self.kept.begun = chains;
        Ok(())
    }

    /// Releases the connection after a transaction was rolled back because of `error`, if the error concerns only the
    /// transaction.
    pub(super) fn release_after(self, error: Option<&sqlx::Error>) {
        match error.map(|error| (error, Fault::of(error))) {
            None | Some((_, Fault::Statement | Fault::Conflict)) => self.release(),
            Some((error, Fault::Connection | Fault::Server)) => self.close_after(Some(error)),
        }
    }

    /// Closes the connection, and all others if `error` says that the server cannot serve.
    pub(super) fn close_after(self, error: Option<&sqlx::Error>) {
        if let Some(error) = error.filter(|error| Fault::of(error) == Fault::Server) {
            self.give_up(error);
        }
    }

    /// Closes the connection and all others.
    pub(super) fn give_up(self, error: &sqlx::Error) {
        self.pool.give_up(self.kept.opened, error);
    }

    /// Removes the connection from the pool, for a state that outlives a query, for example a lock.
    pub(super) fn detach(self) -> MySqlConnection {
        ScopeGuard::into_inner(self.kept).connection.detach()
    }

    /// Releases the connection for the next caller: no query is running on it, and no transaction has begun to do anything.
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
