//! `[limits]`: the capacity of one gateway.

use serde::Deserialize;
use shared::config::ConfigError;

/// The largest reply: contents of 512 KiB, and 500 times ids, numbers and field names, all as JSON.
pub(crate) const REPLY_BYTES_MAX: usize = 1 << 20;

/// `[limits]`: the capacity of one gateway. They bound all memory that clients can make it use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Connections of one user; with a further one, the one that was silent longest is closed with 4429.
    pub connections_per_user_max: usize,
    /// Connections of one address (IPv6: /64 network) that are not WebSockets; further ones have one second for each
    /// request head, and at a quarter of `connections_max` they are closed. Trusted proxies have no such limit. 0 for no
    /// limit.
    pub address_pending_connections_max: usize,
    /// Unanswered requests of one connection; further frames stay in the socket.
    pub requests_per_connection_max: usize,
    /// Bytes of replies that wait for one connection to read them; further requests stay in the socket, or wait. At least
    /// 1 MiB, the largest reply.
    pub reply_bytes_per_connection_max: usize,
    /// Bytes of replies that wait for all connections and calls of one user; further requests wait until their deadline.
    pub reply_bytes_per_user_max: usize,
    /// Bytes of replies that wait for all clients; further requests wait until their deadline.
    pub reply_bytes_max: usize,
    /// Bytes of pushes that wait for one slow consumer; further ones are dropped, and the client gets a resync.
    pub push_bytes_per_connection_max: usize,
    /// Malformed frames in a row before a connection is closed with 4429.
    pub malformed_frames_max: u32,
    /// Concurrent database queries for logins. Logins that arrive meanwhile share the next query, so that mass reconnects
    /// leave capacity for connected users.
    pub logins_at_once: usize,
    /// Logins that wait for a query; a further one is closed with 1012 and a delay before it reconnects.
    pub logins_waiting_max: usize,
    /// Messages between admission and reply; a further one gets 503.
    pub messages_in_flight_max: usize,
    /// Messages that wait for one shard's pipeline; a further one gets 503.
    pub shard_queue_messages_max: usize,
    /// Messages per published batch.
    pub batch_messages_max: usize,
    /// Bytes per published batch, with overhead.
    pub batch_bytes_max: usize,
    /// Batches of all shards that are numbered and published concurrently. Under load this makes fewer, larger batches.
    pub batches_at_once: usize,
    /// Milliseconds between two rounds of batches at a medium or high rate, and 0.1 more for each message in
    /// them, up to 5. 0: none.
    pub batch_interval_ms: u64,
    /// Deadline of every request.
    pub request_deadline_ms: u64,
    /// Concurrent reads (pulls, syncs, read positions) of one user; further ones wait until their deadline.
    pub user_reads_at_once: usize,
    /// What the reads and calls of one user may cost per second, in units of about 10 microseconds of processor time; 0
    /// for no limit. Requests beyond it wait, and get 429 at their deadline.
    pub user_cost_per_second: u32,
    /// What they may cost at once after a pause.
    pub user_cost_burst: u32,
    /// Messages per second and user; 0 for no limit.
    pub user_messages_per_second: u32,
    /// Messages of a user at once after a pause.
    pub user_messages_burst: u32,
    /// How long a user may recall its own message. A group's owner and admins may recall any message at any time.
    pub recall_within_ms: u64,
    /// How long a user may edit its own message; 0 for no limit.
    pub edit_within_ms: u64,
    /// Bytes of an HTTP body, unless the call has its own limit.
    pub http_body_bytes_max: usize,
    /// Concurrent HTTP calls; a further one gets 503. The operator has a tenth as many of its own.
    pub http_calls_max: usize,
    /// Concurrent HTTP calls of one address (IPv6: /64 network); a further one gets 429. 0 for no limit.
    pub address_calls_at_once: usize,
    /// HTTP calls per second and address (IPv6: /64 network); 0 for no limit.
    pub address_calls_per_second: u32,
    /// HTTP calls from one address at once after a pause.
    pub address_calls_burst: u32,
    /// HTTP calls per second and user; 0 for no limit.
    pub user_calls_per_second: u32,
    /// HTTP calls of a user at once after a pause.
    pub user_calls_burst: u32,
    /// Attempts to log in, register or change a password per minute and address (IPv6: /64 network), on all gateways together;
    /// 0 for no limit.
    pub address_logins_per_minute: u32,
    /// Attempts with a wrong password per minute at one account from one address, on all gateways together; 0 for no limit.
    pub user_logins_per_minute: u32,
    /// Attempts with a wrong password per minute at one account from all addresses together from which no login succeeded within
    /// 30 days; 0 for no limit. Several times `user_logins_per_minute`, so that one address cannot reach it.
    pub account_logins_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            connections_per_user_max: 32,
            address_pending_connections_max: 256,
            requests_per_connection_max: 256,
            reply_bytes_per_connection_max: 2 << 20,
            reply_bytes_per_user_max: 8 << 20,
            reply_bytes_max: 256 << 20,
            push_bytes_per_connection_max: 256 * 1024,
            malformed_frames_max: 64,
            logins_at_once: 4,
            logins_waiting_max: 10_000,
            messages_in_flight_max: 50_000,
            // As many as may be in flight: the deadline, not this limit, refuses messages that wait too long.
            shard_queue_messages_max: 50_000,
            batch_messages_max: 256,
            batch_bytes_max: 256 * 1024,
            batches_at_once: 2,
            batch_interval_ms: 2,
            request_deadline_ms: 5_000,
            user_reads_at_once: 4,
            // A tenth of a processor.
            user_cost_per_second: 10_000,
            user_cost_burst: 20_000,
            user_messages_per_second: 50,
            user_messages_burst: 200,
            recall_within_ms: 120_000,
            edit_within_ms: 86_400_000,
            http_body_bytes_max: 64 * 1024,
            http_calls_max: 1_000,
            address_calls_at_once: 100,
            // Many users may share an address.
            address_calls_per_second: 100,
            address_calls_burst: 400,
            user_calls_per_second: 20,
            user_calls_burst: 100,
            address_logins_per_minute: 60,
            user_logins_per_minute: 10,
            account_logins_per_minute: 100,
        }
    }
}

impl Limits {
    /// Checks the ranges of values.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let limits = self;
        for (key, value, max) in [
            ("limits.connections_max", limits.connections_max, tokio::sync::Semaphore::MAX_PERMITS),
            ("limits.connections_per_user_max", limits.connections_per_user_max, usize::MAX),
            ("limits.requests_per_connection_max", limits.requests_per_connection_max, 65_536),
            ("limits.push_bytes_per_connection_max", limits.push_bytes_per_connection_max, usize::MAX),
            ("limits.user_reads_at_once", limits.user_reads_at_once, 65_536),
            ("limits.logins_at_once", limits.logins_at_once, 1_024),
            (
                "limits.logins_waiting_max",
                limits.logins_waiting_max,
                tokio::sync::Semaphore::MAX_PERMITS - 1_024,
            ),
            (
                "limits.messages_in_flight_max",
                limits.messages_in_flight_max,
                tokio::sync::Semaphore::MAX_PERMITS,
            ),
            ("limits.http_body_bytes_max", limits.http_body_bytes_max, 16 << 20),
            ("limits.http_calls_max", limits.http_calls_max, tokio::sync::Semaphore::MAX_PERMITS),
            ("limits.shard_queue_messages_max", limits.shard_queue_messages_max, 1 << 20),
            (
                "limits.batch_messages_max",
                limits.batch_messages_max,
                shared::redis::sequence::MESSAGES_PER_CALL_MAX,
            ),
            // RabbitMQ 4 takes bodies of up to 16 MiB.
            ("limits.batch_bytes_max", limits.batch_bytes_max, 8 << 20),
            ("limits.batches_at_once", limits.batches_at_once, 4_096),
        ] {
            if !(1..=max).contains(&value) {
                return Err(ConfigError::key(key, format!("{value} is not in 1..={max}")));
            }
        }
        for (key, value) in [
            ("limits.reply_bytes_per_connection_max", limits.reply_bytes_per_connection_max),
            ("limits.reply_bytes_per_user_max", limits.reply_bytes_per_user_max),
            ("limits.reply_bytes_max", limits.reply_bytes_max),
        ] {
            // A reply that is larger than a limit could never be sent.
            let (min, max) = (REPLY_BYTES_MAX, tokio::sync::Semaphore::MAX_PERMITS);
            if !(min..=max).contains(&value) {
                return Err(ConfigError::key(key, format!("{value} is not in {min}..={max}")));
            }
        }
        if limits.batch_interval_ms > 100 {
            return Err(ConfigError::key("limits.batch_interval_ms", "is above 100"));
        }
        if limits.request_deadline_ms == 0 {
            return Err(ConfigError::key("limits.request_deadline_ms", "is 0"));
        }
        Ok(())
    }
}
