//! Which keys can change while a worker runs. docs/configuration.md has this as a column.

use shared::reload::LiveKeys;

use super::Config;

/// The keys that SIGHUP applies.
pub(crate) const KEYS: LiveKeys<Config> = LiveKeys { names: LIVE, changed };

/// Applied at SIGHUP.
const LIVE: &[&str] = &[
    "commit.batch_messages_max",
    "commit.interval_ms",
    "commit.transactions_at_once",
    "drain.grace_ms",
    "events.targeted_from_gateways",
    "log.filter",
];

/// Applied at the next start.
#[cfg(test)]
const RESTART: &[&str] = &[
    "amqp.heartbeat_s",
    "amqp.management_url",
    "amqp.on_harmful_policy",
    "amqp.prefix",
    "amqp.tls_ca",
    "amqp.tls_cert",
    "amqp.tls_key",
    "amqp.url",
    "commit.hole_timeout_ms",
    "commit.prefetch_bodies",
    "feed.enabled",
    "feed.keep_s",
    "feed.shards",
    "files.base_url",
    "files.bytes_max",
    "files.cdn_base_url",
    "files.folder",
    "files.links_key",
    "files.links_key_file",
    "files.links_valid_s",
    "files.part_bytes",
    "files.picture_bytes_max",
    "files.picture_pixels_max",
    "files.pictures_at_once",
    "files.s3_access_key",
    "files.s3_bucket",
    "files.s3_path_style",
    "files.s3_prefix",
    "files.s3_public_url",
    "files.s3_region",
    "files.s3_secret_key",
    "files.s3_secret_key_file",
    "files.s3_url",
    "files.store",
    "files.strip_metadata",
    "files.transfers_at_once",
    "files.types",
    "files.unused_keep_s",
    "files.user_bytes_per_day",
    "files.user_uploads_per_day",
    "inbox.ttl_s",
    "log.format",
    "mysql.connections_max",
    "mysql.timeout_ms",
    "mysql.tls_ca",
    "mysql.tls_cert",
    "mysql.tls_key",
    "mysql.url",
    "ops.address",
    "ops.advertise",
    "redis.command_timeout_ms",
    "redis.sent_ttl_s",
    "redis.tls_ca",
    "redis.tls_cert",
    "redis.tls_key",
    "redis.url",
    "runtime.threads",
    "shards.count",
    "start.wait_s",
    "traces.otlp_endpoint",
    "traces.service_name",
];

/// `now` with the values of `new` for the keys of [`LIVE`].
fn changed(now: &Config, new: &Config) -> Config {
    let mut config = now.clone();
    config.commit.batch_messages_max = new.commit.batch_messages_max;
    config.commit.transactions_at_once = new.commit.transactions_at_once;
    config.commit.interval_ms = new.commit.interval_ms;
    config.drain = new.drain.clone();
    config.events = new.events.clone();
    config.log.filter.clone_from(&new.log.filter);
    config
}

#[cfg(test)]
mod tests {
    use shared::config::Program;
    use shared::config::sample::{changed_keys, keys, with_other_values};

    use super::*;

    #[test]
    fn each_key_is_classified_once() {
        let mut classified: Vec<_> = [LIVE, RESTART].concat();
        classified.sort_unstable();
        assert_eq!(
            keys(&Config::default()),
            classified,
            "a key that is not in LIVE or RESTART, or in both, or does not exist"
        );
    }

    #[test]
    fn the_keys_that_are_applied_are_those_of_the_list() {
        let sample = include_str!("../../../deploy/config/worker.toml");
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(&file, with_other_values(sample)).unwrap();
        let new: Config =
            shared::config::load_from(Program::Worker, Some(file.path()), Default::default()).unwrap();
        let old = Config::default();
        assert_eq!(changed_keys(&old, &changed(&old, &new)), LIVE);
        assert!(changed_keys(&old, &new).len() > LIVE.len() + 5, "the test changes too few keys");
    }
}
