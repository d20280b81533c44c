//! Where the code does not keep a rule yet.

/// Rule, file and subject of a finding.
pub(crate) const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("direction", "worker/src/config.rs", "worker/src/shards/shard_task.rs"),
    ("queue", "worker/src/intake/letter_box.rs", "queue_declare"),
];
