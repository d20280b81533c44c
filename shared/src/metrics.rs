//! The names of all metrics, with kind, labels and meaning. docs/metrics.md is made from them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// One metric of a gateway or worker.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name in `/metrics`; that of a histogram is followed by `_bucket`, `_sum` and `_count` there.
    pub name: &'static str,
    /// What its value means.
    pub kind: Kind,
    /// The names of its labels. None of them has a value that clients can choose.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only rises, until the process ends.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

impl Metric {
    fn describe(&self) {
        let unit = if self.name.trim_end_matches("_total").ends_with("_seconds") {
            Unit::Seconds
        } else {
            Unit::Count
        };
        match self.kind {
            Kind::Counter => describe_counter!(self.name, unit, self.help),
            Kind::Gauge => describe_gauge!(self.name, unit, self.help),
            Kind::Histogram => describe_histogram!(self.name, unit, self.help),
        }
    }
}

macro_rules! names {
    ($($name:ident = $text:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $name: &str = $text;)*

        /// All metrics that gateways and workers define.
        pub const ALL: &[Metric] = &[
            $(Metric { name: $text, kind: Kind::$kind, labels: &[$($label),*], help: $help },)*
        ];
    };
}

/// Describes each metric to the recorder.
pub fn describe() {
    ALL.iter().chain(STANDARD).for_each(Metric::describe);
}

names! {
    PROCESS_INFO = "im_process_info", Gauge, ["role", "id", "version"],
        "1, with the role, the id and the version of the process as labels.";
    BUILD_INFO = "im_build_info", Gauge, ["version", "commit"],
        "1, with the version and the commit of the program as labels.";
    PROCESS_START = "im_process_start_time_seconds", Gauge, [],
        "When the process started, in seconds since the Unix epoch.";
    PROCESS_READY = "im_process_ready", Gauge, [],
        "1 if the process is ready, as /readyz says, 0 otherwise.";
    PROCESS_CHECK_FAILING = "im_process_check_failing", Gauge, ["check"],
        "1 while the check of /readyz fails, 0 otherwise, by check.";
    FEED_ENABLED = "im_feed_enabled", Gauge, [],
        "1 if the process adds what it commits to the change feed (feed.enabled), 0 otherwise. It must be equal on all processes.";
    SHARDS = "im_shards", Gauge, [],
        "Number of shards.";
    LOG_LINES_LOST = "im_log_lines_lost_total", Counter, [],
        "Log lines that were dropped, because standard output did not take them.";
    TRACE_SPANS_EXPORTED = "im_trace_spans_exported_total", Counter, [],
        "Spans of sampled messages that the collector of traces accepted.";
    TRACE_SPANS_LOST = "im_trace_spans_lost_total", Counter, ["reason"],
        "Spans of sampled messages that were dropped, by reason: queue (it was full) or export (the collector did not accept them in time).";
    TRACES_NOT_STARTED = "im_traces_not_started_total", Counter, [],
        "Messages that were to be sampled, and have no trace because of traces.per_second_max.";
    STORE_RECONNECTS = "im_store_reconnects_total", Counter, ["store"],
        "Times that all connections to a store were given up and opened again, because of its answers, by store.";
    TOPOLOGY_DECLARED = "im_amqp_topology_declared_total", Counter, [],
        "Times that exchanges and queues were declared again, because one of them was missing.";
    HARMFUL_POLICIES = "im_amqp_harmful_policies", Gauge, [],
        "Queues with a policy in RabbitMQ that deletes accepted messages, as seen at the last look.";
    FEW_REPLICAS = "im_amqp_few_replicas", Gauge, [],
        "Queues with fewer than three replicas in a RabbitMQ of three nodes or more, as seen at the last look.";
    POLICY_LOOKS_FAILED = "im_amqp_policy_looks_failed_total", Counter, [],
        "Looks at the policies of RabbitMQ that failed.";
    PUBLISHERS_BLOCKED = "im_amqp_publishers_blocked", Gauge, ["connection"],
        "1 while RabbitMQ blocks publishers on the connection, because of a memory or disk alarm, 0 otherwise.";
    MYSQL_CONNECTIONS = "im_mysql_connections", Gauge, ["state"],
        "Connections of the pool to MySQL, by state: in_use or idle.";
    MYSQL_CONNECTIONS_LIMIT = "im_mysql_connections_limit", Gauge, [],
        "Most connections of the pool to MySQL (mysql.connections_max).";
    MYSQL_POOL_TIMEOUTS = "im_mysql_pool_timeouts_total", Counter, [],
        "Times that no connection of the pool to MySQL was free in time.";
    TRANSACTION_RETRIES = "im_mysql_transaction_retries_total", Counter, ["transaction"],
        "Transactions that were repeated after a deadlock or lock timeout, by name.";

    GATEWAY_CONNECTIONS = "im_gateway_connections", Gauge, [],
        "Open WebSocket connections.";
    GATEWAY_CONNECTIONS_LIMIT = "im_gateway_connections_limit", Gauge, [],
        "Most connections that the gateway accepts: limits.connections_max, or what the limit of open files allows.";
    GATEWAY_CONNECTIONS_CLOSED = "im_gateway_connections_closed_total", Counter, ["code"],
        "WebSocket connections that ended, by the close code that the gateway sent; none if the client went away.";
    GATEWAY_CONNECTIONS_REFUSED = "im_gateway_connections_refused_total", Counter, [],
        "TCP connections that were closed at once because their address has too many that are no WebSocket.";
    GATEWAY_PROXY_REFUSED = "im_gateway_proxy_headers_refused_total", Counter, [],
        "TCP connections that were closed because they began without a PROXY header, or came from an address that is not trusted.";
    GATEWAY_TLS_FAILED = "im_gateway_tls_handshakes_failed_total", Counter, [],
        "TLS handshakes that clients did not complete in time or at all.";
    TLS_EXPIRY = "im_tls_certificate_expiry_timestamp_seconds", Gauge, [],
        "When the certificate of the gateway's port of clients expires, in seconds since the Unix epoch.";
    GATEWAY_LOGINS = "im_gateway_logins_total", Counter, [],
        "Logins of connections whose memberships were loaded.";
    GATEWAY_LOGINS_WAITING = "im_gateway_logins_waiting", Gauge, [],
        "Logins that wait for a query of their memberships.";
    GATEWAY_REQUESTS = "im_gateway_requests_total", Counter, ["cmd"],
        "Requests of clients that were started, by cmd: chat (counted per batch, after admission), heartbeat (with a sync position), pull, ack, sync, typing.";
    GATEWAY_ACCEPTED = "im_gateway_messages_accepted_total", Counter, [],
        "Messages confirmed by the broker and acknowledged to their senders.";
    GATEWAY_REFUSED = "im_gateway_refused_total", Counter, ["code"],
        "Requests that were answered with an error, by code.";
    GATEWAY_SENDS_REFUSED = "im_gateway_sends_refused_total", Counter, ["code"],
        "Messages (cmd 2) that were answered with an error, by code.";
    GATEWAY_IN_FLIGHT = "im_gateway_messages_in_flight", Gauge, [],
        "Messages between admission and confirm.";
    GATEWAY_IN_FLIGHT_LIMIT = "im_gateway_messages_in_flight_limit", Gauge, [],
        "Most messages between admission and confirm (limits.messages_in_flight_max); a further one gets 503.";
    GATEWAY_BATCH = "im_gateway_batch_messages", Histogram, [],
        "Messages per published batch.";
    GATEWAY_NUMBER_TIME = "im_gateway_number_seconds", Histogram, [],
        "Time to number a batch in Redis.";
    GATEWAY_CONFIRM_TIME = "im_gateway_confirm_seconds", Histogram, [],
        "Time from publishing a batch to its confirm.";
    GATEWAY_ACK_TIME = "im_gateway_ack_seconds", Histogram, [],
        "Time from the admission of the oldest message of a batch to the confirm that answers it, once per batch.";
    GATEWAY_RESEEDED = "im_gateway_sequences_reseeded_total", Counter, [],
        "Conversations whose sequence counter was missing in Redis and was reseeded from MySQL.";
    GATEWAY_READS_MERGED = "im_gateway_reads_merged_total", Counter, [],
        "Pulls that were answered by the read of an identical, concurrent pull.";
    GATEWAY_PAGES_AGAIN = "im_gateway_pages_again_total", Counter, [],
        "Pages that were served from cache after revalidation of their last_seq.";
    GATEWAY_PAGE_QUERIES = "im_gateway_page_queries_total", Counter, [],
        "Pages that were read from MySQL.";
    GATEWAY_FEED_EVENTS = "im_gateway_feed_events_total", Counter, [],
        "Events of the change feed that were read, each time that one was.";
    GATEWAY_FEED_WAITING = "im_gateway_feed_waiting", Gauge, [],
        "Readers that wait for the next event of the change feed: calls (at most 64 of the operator and 1,024 of users) and the gateway's own readers.";
    GATEWAY_FEED_READERS = "im_gateway_feed_readers", Gauge, [],
        "Readers of a shard of the change feed that this gateway runs for webhooks and notifications.";
    GATEWAY_FEED_ROWS = "im_gateway_feed_rows_read_total", Counter, [],
        "Rows of the change feed that were read from MySQL. Calls of users share the newest ones.";
    GATEWAY_NOTIFICATIONS = "im_gateway_notifications_total", Counter, ["service", "outcome"],
        "Notifications and withdrawals that were given to a push service for one device, by push service (webpush, fcm, apns) and outcome: accepted, gone (the subscription has ended and is removed), retry (it is sent again later), or rejected (it is not, see the log).";
    GATEWAY_NOTIFICATIONS_WITHDRAWN = "im_gateway_notifications_withdrawn_total", Counter, [],
        "Notifications that devices were told to remove, because their messages were read, recalled or muted, or the user left.";
    GATEWAY_NOTIFICATIONS_DUE = "im_gateway_notifications_due", Gauge, ["shard"],
        "Notifications that are due and not sent, at most 10,000, by shard of the change feed; its reader counts every ten seconds.";
    GATEWAY_NOTIFICATIONS_OLDEST = "im_gateway_notifications_oldest_due_seconds", Gauge, ["shard"],
        "For how long the oldest of them has been due, by shard; 0 if none is.";
    GATEWAY_NOTIFICATIONS_BEHIND = "im_gateway_notifications_behind_seconds", Gauge, ["shard"],
        "Age of the message up to which notifications are planned, by shard; 0 at the end of the change feed.";
    GATEWAY_PERMISSIONS_LOADED = "im_gateway_permissions_loaded_total", Counter, [],
        "Permissions that were read from MySQL, because they were not cached.";
    GATEWAY_TAIL_READS = "im_gateway_tail_reads_total", Counter, [],
        "Reads of the tail of a conversation, to count unread messages.";
    GATEWAY_INBOXES_BUILT = "im_gateway_inboxes_built_total", Counter, [],
        "Inboxes that were rebuilt from MySQL, because they were missing or Redis had restarted.";

    GATEWAY_HOOK_TIME = "im_gateway_hook_seconds", Histogram, [],
        "Time of one call of the hook before sending, until its answer or failure.";
    GATEWAY_HOOK_CALLS = "im_gateway_hook_calls_total", Counter, ["outcome"],
        "Calls of the hook before sending, by outcome: allowed, refused, replaced, or a failure: timeout, unreachable, status (it is not 200), malformed (the answer was not understood).";
    GATEWAY_HOOK_NOT_CALLED = "im_gateway_hook_not_called_total", Counter, ["reason"],
        "Messages for which the hook before sending was to be called and was not, by reason: breaker (the circuit breaker was open), limit (hook.calls_at_once calls were in progress for too long) or late (too little of the message's time was left).";
    GATEWAY_HOOK_UNDECIDED = "im_gateway_hook_undecided_messages_total", Counter, ["decision"],
        "Messages about which the hook before sending has not decided, by the decision of hook.on_failure: allowed or refused.";
    GATEWAY_HOOK_BAD_REPLACEMENTS = "im_gateway_hook_bad_replacements_total", Counter, [],
        "Messages that were refused because what the hook before sending put in their place breaks a rule of messages.";
    GATEWAY_HOOK_IN_PROGRESS = "im_gateway_hook_calls_in_progress", Gauge, [],
        "Calls of the hook before sending that are in progress (at most hook.calls_at_once).";
    GATEWAY_HOOK_WAITING = "im_gateway_hook_waiting_messages", Gauge, [],
        "Messages that wait for the hook before sending, or for earlier messages of their connection and conversation that do.";
    GATEWAY_HOOK_BREAKER = "im_gateway_hook_breaker_open", Gauge, [],
        "1 while the circuit breaker of the hook before sending is open or half-open, 0 otherwise.";
    GATEWAY_WEBHOOK_CALLS = "im_gateway_webhook_calls_total", Counter, ["outcome"],
        "Calls of webhooks, by outcome: delivered, or a failure: timeout, unreachable (also if the address is not allowed), redirect (none is followed) or status (it is not 2xx).";
    GATEWAY_WEBHOOK_TIME = "im_gateway_webhook_seconds", Histogram, [],
        "Time of one call of a webhook, until its answer or failure.";
    GATEWAY_WEBHOOK_EVENTS = "im_gateway_webhook_events_total", Counter, [],
        "Events that endpoints of webhooks have received: those of calls that were answered with 2xx.";
    GATEWAY_WEBHOOK_SKIPPED = "im_gateway_webhook_skipped_rows_total", Counter, [],
        "Rows of the change feed that a webhook has not received, because they were removed before: its endpoint failed, or was paused, for longer than feed.keep_s.";
    GATEWAY_WEBHOOK_FAILING = "im_gateway_webhook_failing", Gauge, [],
        "Webhooks whose last call failed, each counted once for each shard of the change feed that this gateway reads for it.";
    GATEWAY_WEBHOOK_LAG = "im_gateway_webhook_lag_seconds", Gauge, [],
        "Age of the oldest event that a webhook of this gateway is still to receive; 0 if there is none. Paused webhooks do not count.";
    GATEWAY_UPLOADS = "im_gateway_uploads_total", Counter, ["result"],
        "Uploads of files, by result: begun, completed, or refused because the bytes were not what was announced.";
    GATEWAY_UPLOAD_BYTES = "im_gateway_upload_bytes_total", Counter, [],
        "Bytes of completed uploads.";
    GATEWAY_TRANSFER_BYTES = "im_gateway_transfer_bytes_total", Counter, ["direction"],
        "Bytes of files that this gateway carried itself, by direction: in or out.";
    GATEWAY_TRANSFERS = "im_gateway_transfers", Gauge, [],
        "Uploads and downloads that this gateway carries at the moment (at most files.transfers_at_once).";

    PUSH_TIME = "im_push_seconds", Histogram, [],
        "Time from the admission of a message to the push of its commit into outboxes of the same gateway, for a sample of messages.";
    PUSH_EVENTS = "im_push_events_total", Counter, ["useful"],
        "Events received from workers and gateways, by whether they concerned a connection of this gateway.";
    PUSH_PUBLISHED = "im_push_events_published_total", Counter, ["to"],
        "Events of commits for which gateways were looked up, by where they went: all gateways, or some. Without lookups (see events.targeted_from_gateways) all go to all gateways, and are not counted.";
    PUSH_LOOKUP_TIME = "im_push_lookup_seconds", Histogram, [],
        "Time of the lookup of the gateways of a commit's events in Redis.";
    PUSH_LOOKUPS_FAILED = "im_push_lookups_failed_total", Counter, [],
        "Lookups that failed or took too long: events went to all gateways for a second.";
    PUSH_FRAMES = "im_push_frames_total", Counter, [],
        "Push frames put into outboxes.";
    PUSH_DROPPED = "im_push_dropped_total", Counter, [],
        "Push frames that were dropped because of a slow consumer, which gets a resync.";
    PUSH_SLOW_CONSUMERS = "im_push_slow_consumers_total", Counter, [],
        "Times that a connection became a slow consumer: the first dropped push after all earlier ones were repaired.";
    PUSH_RESYNCS = "im_push_resyncs_total", Counter, [],
        "Resync events put into outboxes.";

    WORKER_COMMITTED = "im_worker_messages_committed_total", Counter, [],
        "Messages committed to the timeline.";
    WORKER_BATCH = "im_worker_batch_messages", Histogram, [],
        "Messages per transaction.";
    WORKER_COMMIT_TIME = "im_worker_commit_seconds", Histogram, [],
        "Duration of a transaction, from its begin to its commit.";
    WORKER_COMMITS_FAILED = "im_worker_commits_failed_total", Counter, [],
        "Transactions that failed; the batch is retried until MySQL is available.";
    WORKER_GAP_WAITS = "im_worker_gap_waits_total", Counter, [],
        "Messages that began to be held, because a lower sequence number was missing.";
    WORKER_HOLES = "im_worker_numbers_given_up_total", Counter, [],
        "Missing sequence numbers that were voided after the gap timeout.";
    WORKER_RENUMBERED = "im_worker_messages_renumbered_total", Counter, [],
        "Messages that were renumbered, because their sequence number was voided or reused.";
    WORKER_DUPLICATES = "im_worker_messages_duplicate_total", Counter, [],
        "Duplicates: messages that were stored already.";
    WORKER_REFUSED = "im_worker_messages_refused_total", Counter, ["code"],
        "Accepted messages that were refused at the commit, because their sender had lost the permission to send, by code.";
    WORKER_PERMISSIONS_READ = "im_worker_permissions_read_total", Counter, [],
        "Conversations whose permissions were read, because they were not cached or had changed.";
    WORKER_INBOX_WRITES = "im_worker_inbox_writes_total", Counter, [],
        "Inbox updates that were written, to inboxes and to group heads.";
    WORKER_INBOX_TIME = "im_worker_inbox_seconds", Histogram, [],
        "Time to write a batch of inbox updates to Redis.";
    WORKER_INBOXES_FAILED = "im_worker_inboxes_failed_total", Counter, [],
        "Conversations whose inbox updates failed; they are retried.";
    WORKER_DEAD = "im_worker_dead_letters_total", Counter, [],
        "Messages that can never be stored and were published to the dead-letter queue.";
    WORKER_SHARDS = "im_worker_shards", Gauge, [],
        "Shards that this worker consumes.";
    WORKER_SHARD_OWNER = "im_worker_shard_owner", Gauge, ["shard"],
        "1 while this worker consumes the shard, 0 afterwards, by shard.";
    WORKER_READY_BODIES = "im_worker_queue_ready_bodies", Gauge, ["shard"],
        "Bodies (batches of up to 256 messages) that wait in the work queue, by shard; its owner asks once per second.";
    WORKER_UNACKED_BODIES = "im_worker_queue_unacked_bodies", Gauge, ["shard"],
        "Bodies that this worker is processing and has not acknowledged, by shard. The broker may have delivered more ahead.";
    WORKER_OLDEST_BODY = "im_worker_oldest_body_timestamp_seconds", Gauge, ["shard"],
        "When the gateway published the oldest body that this worker has not acknowledged, in seconds since the Unix epoch, by shard; 0 if there is none. The age of the backlog is the time since.";
    DEAD_LETTERS = "im_dead_letters", Gauge, [],
        "Messages in the dead-letter queue; the owner of shard 0 asks once per second, other workers report 0.";
    WORKER_PICTURES = "im_worker_pictures_total", Counter, ["result"],
        "Pictures that this worker looked at, by result: done, refused (broken, or too many pixels), or failed (the store or the database).";
    WORKER_PICTURE_TIME = "im_worker_picture_seconds", Histogram, [],
        "Time to read a picture, make its small picture and write it.";
    WORKER_FEED_PRUNED = "im_worker_feed_rows_removed_total", Counter, [],
        "Rows of the change feed that were removed because they are older than feed.keep_s.";
    WORKER_FILES_REMOVED = "im_worker_files_removed_total", Counter, ["reason"],
        "Files that were removed, by reason: unfinished (never completed), unused (never sent), or gone (recalled, or no avatar any more).";
    WORKER_FILE_BYTES_REMOVED = "im_worker_file_bytes_removed_total", Counter, [],
        "Bytes of files that were removed from the store.";
    FILES_STORED = "im_files_stored", Gauge, [],
        "Completed uploads whose bytes are stored; the owner of shard 0 counts every ten minutes, other workers report 0.";
    FILE_BYTES_STORED = "im_file_bytes_stored", Gauge, [],
        "Bytes of completed uploads that are stored; the owner of shard 0 counts every ten minutes, other workers report 0.";
    WORKER_HELD = "im_worker_messages_held", Gauge, ["shard"],
        "Held messages, which wait for a lower sequence number, by shard.";
}

/// The metrics that programs of all kinds have under these names, about the process as the kernel sees it.
pub const STANDARD: &[Metric] = &[
    standard("process_cpu_seconds_total", Kind::Counter, "Processor time of the process, user and system."),
    standard("process_resident_memory_bytes", Kind::Gauge, "Resident memory of the process."),
    standard("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory of the process."),
    standard("process_virtual_memory_max_bytes", Kind::Gauge, "Limit of the virtual memory of the process."),
    standard("process_open_fds", Kind::Gauge, "Open files and sockets of the process."),
    standard("process_max_fds", Kind::Gauge, "Limit of the open files and sockets of the process."),
    standard("process_threads", Kind::Gauge, "Threads of the process."),
    standard(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, in seconds since the Unix epoch.",
    ),
];

const fn standard(name: &'static str, kind: Kind, help: &'static str) -> Metric {
    Metric { name, kind, labels: &[], help }
}

/// Sets the gauge that says which build this is.
pub fn built_from(commit: &'static str) {
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "commit" => commit).set(1.0);
}

/// Sets the gauges that say which process this is. `role` is `gateway` or `worker`.
pub fn process_started(role: &'static str, id: &str) {
    let version = env!("CARGO_PKG_VERSION");
    metrics::gauge!(PROCESS_INFO, "role" => role, "id" => id.to_owned(), "version" => version).set(1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    metrics::gauge!(PROCESS_START).set(now.as_secs_f64());
}
