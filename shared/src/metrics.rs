//! The names of all metrics, with unit and meaning.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $describe:ident, $unit:expr, $help:literal;)*) => {
        $(#[doc = $help] pub const $name: &str = $text;)*

        /// Describes each metric to the recorder.
        pub fn describe() {
            $($describe!($name, $unit, $help);)*
        }
    };
}

names! {
    PROCESS_INFO = "im_process_info", describe_gauge, Unit::Count,
        "1, with the role, the id and the version of the process as labels.";
    BUILD_INFO = "im_build_info", describe_gauge, Unit::Count,
        "1, with the version and the commit of the program as labels.";
    PROCESS_START = "im_process_start_time_seconds", describe_gauge, Unit::Seconds,
        "When the process started, in seconds since the Unix epoch.";
    PROCESS_READY = "im_process_ready", describe_gauge, Unit::Count,
        "1 if the process is ready, as /readyz says, 0 otherwise.";
    LOG_LINES_LOST = "im_log_lines_lost_total", describe_counter, Unit::Count,
        "Log lines that were dropped, because standard output did not take them.";
    STORE_RECONNECTS = "im_store_reconnects_total", describe_counter, Unit::Count,
        "Times that all connections to a store were given up and opened again, because of its answers, by store.";
    TOPOLOGY_DECLARED = "im_amqp_topology_declared_total", describe_counter, Unit::Count,
        "Times that exchanges and queues were declared again, because one of them was missing.";
    HARMFUL_POLICIES = "im_amqp_harmful_policies", describe_gauge, Unit::Count,
        "Queues with a policy in RabbitMQ that deletes accepted messages, as seen at the last look.";
    POLICY_LOOKS_FAILED = "im_amqp_policy_looks_failed_total", describe_counter, Unit::Count,
        "Looks at the policies of RabbitMQ that failed.";
    TRANSACTION_RETRIES = "im_mysql_transaction_retries_total", describe_counter, Unit::Count,
        "Transactions that were repeated after a deadlock or lock timeout, by name.";

    GATEWAY_CONNECTIONS = "im_gateway_connections", describe_gauge, Unit::Count,
        "Open WebSocket connections.";
    GATEWAY_CONNECTIONS_REFUSED = "im_gateway_connections_refused_total", describe_counter, Unit::Count,
        "TCP connections that were closed at once because their address has too many that are no WebSocket.";
    GATEWAY_PROXY_REFUSED = "im_gateway_proxy_headers_refused_total", describe_counter, Unit::Count,
        "TCP connections that were closed because they began without a PROXY header, or came from an address that is not trusted.";
    GATEWAY_TLS_FAILED = "im_gateway_tls_handshakes_failed_total", describe_counter, Unit::Count,
        "TLS handshakes that clients did not complete in time or at all.";
    TLS_EXPIRY = "im_tls_certificate_expiry_timestamp_seconds", describe_gauge, Unit::Seconds,
        "When the certificate of the gateway's port of clients expires, in seconds since the Unix epoch.";
    GATEWAY_ACCEPTED = "im_gateway_messages_accepted_total", describe_counter, Unit::Count,
        "Messages confirmed by the broker and acknowledged to their senders.";
    GATEWAY_REFUSED = "im_gateway_refused_total", describe_counter, Unit::Count,
        "Requests that were answered with an error, by code.";
    GATEWAY_BATCH = "im_gateway_batch_messages", describe_histogram, Unit::Count,
        "Messages per published batch.";
    GATEWAY_NUMBER_TIME = "im_gateway_number_seconds", describe_histogram, Unit::Seconds,
        "Time to number a batch in Redis.";
    GATEWAY_CONFIRM_TIME = "im_gateway_confirm_seconds", describe_histogram, Unit::Seconds,
        "Time from publishing a batch to its confirm.";
    GATEWAY_ACK_TIME = "im_gateway_ack_seconds", describe_histogram, Unit::Seconds,
        "Time from the admission of the oldest message of a batch to the confirm that answers it, once per batch.";
    GATEWAY_RESEEDED = "im_gateway_sequences_reseeded_total", describe_counter, Unit::Count,
        "Conversations whose sequence counter was missing in Redis and was reseeded from MySQL.";
    GATEWAY_READS_MERGED = "im_gateway_reads_merged_total", describe_counter, Unit::Count,
        "Pulls that were answered by the read of an identical, concurrent pull.";
    GATEWAY_PAGES_AGAIN = "im_gateway_pages_again_total", describe_counter, Unit::Count,
        "Pages that were served from cache after revalidation of their last_seq.";
    GATEWAY_TAIL_READS = "im_gateway_tail_reads_total", describe_counter, Unit::Count,
        "Reads of the tail of a conversation, to count unread messages.";
    GATEWAY_INBOXES_BUILT = "im_gateway_inboxes_built_total", describe_counter, Unit::Count,
        "Inboxes that were rebuilt from MySQL, because they were missing or Redis had restarted.";

    PUSH_TIME = "im_push_seconds", describe_histogram, Unit::Seconds,
        "Time from the admission of a message to the push of its commit into outboxes of the same gateway, for a sample of messages.";
    PUSH_EVENTS = "im_push_events_total", describe_counter, Unit::Count,
        "Events received from workers and gateways, by whether they concerned a connection of this gateway.";
    PUSH_FRAMES = "im_push_frames_total", describe_counter, Unit::Count,
        "Push frames put into outboxes.";
    PUSH_DROPPED = "im_push_dropped_total", describe_counter, Unit::Count,
        "Push frames that were dropped because of a slow consumer, which gets a resync.";
    PUSH_RESYNCS = "im_push_resyncs_total", describe_counter, Unit::Count,
        "Resync events put into outboxes.";

    WORKER_COMMITTED = "im_worker_messages_committed_total", describe_counter, Unit::Count,
        "Messages committed to the timeline.";
    WORKER_BATCH = "im_worker_batch_messages", describe_histogram, Unit::Count,
        "Messages per transaction.";
    WORKER_COMMIT_TIME = "im_worker_commit_seconds", describe_histogram, Unit::Seconds,
        "Duration of a transaction, from its begin to its commit.";
    WORKER_HOLES = "im_worker_numbers_given_up_total", describe_counter, Unit::Count,
        "Missing sequence numbers that were voided after the gap timeout.";
    WORKER_RENUMBERED = "im_worker_messages_renumbered_total", describe_counter, Unit::Count,
        "Messages that were renumbered, because their sequence number was voided or reused.";
    WORKER_DUPLICATES = "im_worker_messages_duplicate_total", describe_counter, Unit::Count,
        "Duplicates: messages that were stored already.";
    WORKER_REFUSED = "im_worker_messages_refused_total", describe_counter, Unit::Count,
        "Accepted messages that were refused at the commit, because their sender had lost the permission to send, by code.";
    WORKER_RIGHTS_READ = "im_worker_rights_read_total", describe_counter, Unit::Count,
        "Conversations whose permissions were read, because they were not cached or had changed.";
    WORKER_INBOX_WRITES = "im_worker_inbox_writes_total", describe_counter, Unit::Count,
        "Inbox updates that were written, to inboxes and to group heads.";
    WORKER_INBOXES_FAILED = "im_worker_inboxes_failed_total", describe_counter, Unit::Count,
        "Conversations whose inbox updates failed; they are retried.";
    WORKER_DEAD = "im_worker_dead_letters_total", describe_counter, Unit::Count,
        "Messages that can never be stored and were published to the dead-letter queue.";
    WORKER_SHARDS = "im_worker_shards", describe_gauge, Unit::Count,
        "Shards that this worker consumes.";
    WORKER_SHARD_OWNER = "im_worker_shard_owner", describe_gauge, Unit::Count,
        "1 while this worker consumes the shard, 0 afterwards, by shard.";
    WORKER_READY_BODIES = "im_worker_queue_ready_bodies", describe_gauge, Unit::Count,
        "Bodies (batches of up to 256 messages) that wait in the work queue, by shard; its owner asks once per second.";
    WORKER_UNACKED_BODIES = "im_worker_queue_unacked_bodies", describe_gauge, Unit::Count,
        "Bodies that this worker is processing and has not acknowledged, by shard. The broker may have delivered more ahead.";
    DEAD_LETTERS = "im_dead_letters", describe_gauge, Unit::Count,
        "Messages in the dead-letter queue; the owner of shard 0 asks once per second, other workers report 0.";
    WORKER_HELD = "im_worker_messages_held", describe_gauge, Unit::Count,
        "Held messages, which wait for a lower sequence number, by shard.";
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
