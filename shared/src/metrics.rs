//! Names of all metrics, in one place, with unit and meaning.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $describe:ident, $unit:expr, $help:literal;)*) => {
        $(#[doc = $help] pub const $name: &str = $text;)*

        /// Tells the recorder what each metric means.
        pub fn describe() {
            $($describe!($name, $unit, $help);)*
        }
    };
}

names! {
    TRANSACTION_RETRIES = "im_mysql_transaction_retries_total", describe_counter, Unit::Count,
        "Transactions run again after a deadlock or lock timeout, by name.";

    GATEWAY_CONNECTIONS = "im_gateway_connections", describe_gauge, Unit::Count,
        "Open WebSocket connections.";
    GATEWAY_ACCEPTED = "im_gateway_messages_accepted_total", describe_counter, Unit::Count,
        "Messages confirmed by the broker and acknowledged to their senders.";
    GATEWAY_REFUSED = "im_gateway_refused_total", describe_counter, Unit::Count,
        "Requests answered with an error, by code.";
    GATEWAY_BATCH = "im_gateway_batch_messages", describe_histogram, Unit::Count,
        "Messages per published batch.";
    GATEWAY_NUMBER_TIME = "im_gateway_number_seconds", describe_histogram, Unit::Seconds,
        "Time to number a batch in Redis.";
    GATEWAY_CONFIRM_TIME = "im_gateway_confirm_seconds", describe_histogram, Unit::Seconds,
        "Time from publishing a batch to its confirm.";
    GATEWAY_RESEEDED = "im_gateway_sequences_reseeded_total", describe_counter, Unit::Count,
        "Conversations whose counter was missing in Redis and was set again from MySQL.";
    GATEWAY_READS_MERGED = "im_gateway_reads_merged_total", describe_counter, Unit::Count,
        "Pulls answered by an identical one that was waiting for its turn.";
    GATEWAY_PAGES_AGAIN = "im_gateway_pages_again_total", describe_counter, Unit::Count,
        "Pages that were given again, because nothing had been added to their conversation since they were read.";
    GATEWAY_TAIL_READS = "im_gateway_tail_reads_total", describe_counter, Unit::Count,
        "Reads of the newest messages of a conversation, for lists of conversations.";
    GATEWAY_INBOXES_BUILT = "im_gateway_inboxes_built_total", describe_counter, Unit::Count,
        "Inboxes that were missing, or kept by a server that was restarted, and built from the database.";

    PUSH_EVENTS = "im_push_events_total", describe_counter, Unit::Count,
        "Events received from workers and gateways, by whether anyone here needed them.";
    PUSH_FRAMES = "im_push_frames_total", describe_counter, Unit::Count,
        "Push frames put into outboxes.";
    PUSH_DROPPED = "im_push_dropped_total", describe_counter, Unit::Count,
        "Push frames dropped because a reader was too slow; it is told to pull.";
    PUSH_RESYNCS = "im_push_resyncs_total", describe_counter, Unit::Count,
        "Resync events put into outboxes.";

    WORKER_COMMITTED = "im_worker_messages_committed_total", describe_counter, Unit::Count,
        "Messages committed to the timeline.";
    WORKER_BATCH = "im_worker_batch_messages", describe_histogram, Unit::Count,
        "Messages per transaction.";
    WORKER_COMMIT_TIME = "im_worker_commit_seconds", describe_histogram, Unit::Seconds,
        "Time per transaction, from its begin to its commit.";
    WORKER_HOLES = "im_worker_numbers_given_up_total", describe_counter, Unit::Count,
        "Numbers given up because nobody brought them within the hole timeout.";
    WORKER_RENUMBERED = "im_worker_messages_renumbered_total", describe_counter, Unit::Count,
        "Messages that came after their number was given up, and got another one.";
    WORKER_DUPLICATES = "im_worker_messages_duplicate_total", describe_counter, Unit::Count,
        "Messages that were stored already.";
    WORKER_REFUSED = "im_worker_messages_refused_total", describe_counter, Unit::Count,
        "Messages that were accepted and not stored, because their senders may not send any more, by code.";
    WORKER_RIGHTS_READ = "im_worker_rights_read_total", describe_counter, Unit::Count,
        "Conversations of which it was read who may send, because that was not known or had changed.";
    WORKER_INBOX_WRITES = "im_worker_inbox_writes_total", describe_counter, Unit::Count,
        "Inboxes and heads of large groups in which a conversation was noted.";
    WORKER_INBOXES_FAILED = "im_worker_inboxes_failed_total", describe_counter, Unit::Count,
        "Conversations that could not be noted in inboxes; they are tried again.";
    WORKER_DEAD = "im_worker_dead_letters_total", describe_counter, Unit::Count,
        "Messages that can never be stored, put into the dead-letter queue.";
    WORKER_SHARDS = "im_worker_shards", describe_gauge, Unit::Count,
        "Shards that this worker consumes.";
    WORKER_HELD = "im_worker_messages_held", describe_gauge, Unit::Count,
        "Messages that wait for a lower number, by shard.";
}
