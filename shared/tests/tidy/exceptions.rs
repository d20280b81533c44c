//! Where the code does not keep a rule yet.

/// Rule, file and subject of a finding.
pub(crate) const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("file length", "gateway/src/membership/memberships.rs", ""),
    ("arguments", "gateway/src/membership/memberships.rs", "new"),
    ("circle", "worker/src/commit/plan.rs", ""),
    ("direction", "worker/src/commit/committer.rs", "worker/src/announce/events.rs"),
    ("direction", "worker/src/commit/committer.rs", "worker/src/announce/touches.rs"),
    ("direction", "worker/src/config.rs", "worker/src/shards/shard_task.rs"),
    ("queue", "worker/src/intake/letter_box.rs", "queue_declare"),
    ("circle", "shared/src/mysql/connect.rs", ""),
    ("circle", "shared/src/mysql/groups/change.rs", ""),
    ("mod.rs", "shared/src/config/mod.rs", ""),
    ("mod.rs", "shared/src/mysql/mod.rs", ""),
];
