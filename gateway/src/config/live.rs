//! Which keys can change while a gateway runs. docs/configuration.md has this as a column.

use shared::config::Files;
use shared::reload::LiveKeys;

use super::{Config, Groups, Limits, Push};

/// The keys that SIGHUP applies.
pub(crate) const KEYS: LiveKeys<Config> = LiveKeys { names: LIVE, changed };

/// Applied at SIGHUP.
const LIVE: &[&str] = &[
    "drain.spread_ms",
    "files.bytes_max",
    "files.links_valid_s",
    "files.types",
    "files.user_bytes_per_day",
    "files.user_uploads_per_day",
    "groups.made_per_day",
    "groups.members_added_per_day",
    "groups.members_need_accounts",
    "groups.per_user_max",
    "hook.breaker_failures",
    "hook.breaker_open_ms",
    "hook.breaker_percent",
    "hook.calls_at_once",
    "hook.conversations",
    "hook.messages",
    "hook.on_failure",
    "hook.secret",
    "hook.secret_file",
    "hook.timeout_ms",
    "hook.tls_ca",
    "hook.url",
    "limits.account_logins_per_minute",
    "limits.address_calls_at_once",
    "limits.address_calls_burst",
    "limits.address_calls_per_second",
    "limits.address_logins_per_minute",
    "limits.address_pending_connections_max",
    "limits.batch_bytes_max",
    "limits.batch_interval_ms",
    "limits.batch_messages_max",
    "limits.batches_at_once",
    "limits.connections_max",
    "limits.connections_per_user_max",
    "limits.edit_within_ms",
    "limits.http_body_bytes_max",
    "limits.http_calls_max",
    "limits.logins_at_once",
    "limits.logins_waiting_max",
    "limits.malformed_frames_max",
    "limits.messages_in_flight_max",
    "limits.push_bytes_per_connection_max",
    "limits.recall_within_ms",
    "limits.reply_bytes_max",
    "limits.reply_bytes_per_connection_max",
    "limits.reply_bytes_per_user_max",
    "limits.requests_per_connection_max",
    "limits.user_calls_burst",
    "limits.user_calls_per_second",
    "limits.user_cost_burst",
    "limits.user_cost_per_second",
    "limits.user_logins_per_minute",
    "limits.user_messages_burst",
    "limits.user_messages_per_second",
    "limits.user_reads_at_once",
    "log.filter",
    "profiles.changes_per_minute",
    "push.apns_key_file",
    "push.apns_key_id",
    "push.apns_sandbox",
    "push.apns_team_id",
    "push.apns_topic",
    "push.apns_url",
    "push.delay_s",
    "push.fcm_service_account_file",
    "push.fcm_url",
    "push.interval_s",
    "push.sends_at_once",
    "push.text",
    "push.timeout_ms",
    "push.vapid_keys",
    "push.vapid_keys_file",
    "push.vapid_subject",
    "webhooks.timeout_ms",
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
    "auth.accounts",
    "auth.api_key",
    "auth.api_key_file",
    "auth.audience",
    "auth.hs256_secret",
    "auth.hs256_secret_file",
    "auth.id_profile",
    "auth.issuer",
    "auth.jwks_file",
    "auth.mode",
    "auth.password_chars_min",
    "auth.public_key_file",
    "auth.refuse_common_passwords",
    "auth.token_ttl_s",
    "conversations.settings",
    "feed.enabled",
    "feed.keep_s",
    "feed.shards",
    "files.base_url",
    "files.cdn_base_url",
    "files.folder",
    "files.links_key",
    "files.links_key_file",
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
    "files.unused_keep_s",
    "groups.auto_create",
    "groups.id_profile",
    "groups.large_above",
    "groups.members_max",
    "groups.system_messages",
    "inbox.ttl_s",
    "limits.request_deadline_ms",
    "limits.shard_queue_messages_max",
    "listen.address",
    "listen.allowed_origins",
    "listen.hosts",
    "listen.proxy_protocol",
    "listen.trusted_proxies",
    "log.format",
    "messages.edits",
    "messages.mentions",
    "messages.meta",
    "messages.pins",
    "messages.reactions",
    "messages.replies",
    "mysql.connections_max",
    "mysql.timeout_ms",
    "mysql.tls_ca",
    "mysql.tls_cert",
    "mysql.tls_key",
    "mysql.url",
    "outgoing.allowed_networks",
    "outgoing.tls_ca",
    "ops.address",
    "ops.advertise",
    "presence.events",
    "presence.watched_users_max",
    "profiles.enabled",
    "push.enabled",
    "redis.command_timeout_ms",
    "redis.sent_ttl_s",
    "redis.tls_ca",
    "redis.tls_cert",
    "redis.tls_key",
    "redis.url",
    "runtime.threads",
    "shards.count",
    "start.wait_s",
    "timeouts.drain_bytes_per_second_min",
    "timeouts.heartbeat_ms",
    "timeouts.http_body_ms",
    "timeouts.http_header_ms",
    "timeouts.http_idle_ms",
    "timeouts.http_write_ms",
    "timeouts.login_ms",
    "timeouts.stalled_ms",
    "timeouts.token_warning_ms",
    "tls.cert",
    "tls.key",
    "traces.otlp_endpoint",
    "traces.per_second_max",
    "traces.sample_ratio",
    "traces.service_name",
    "web.enabled",
];

/// `now` with the values of `new` for the keys of [`LIVE`].
fn changed(now: &Config, new: &Config) -> Config {
    let mut config = now.clone();
    config.limits = Limits {
        shard_queue_messages_max: now.limits.shard_queue_messages_max,
        request_deadline_ms: now.limits.request_deadline_ms,
        ..new.limits.clone()
    };
    config.groups = Groups {
        per_user_max: new.groups.per_user_max,
        made_per_day: new.groups.made_per_day,
        members_added_per_day: new.groups.members_added_per_day,
        members_need_accounts: new.groups.members_need_accounts,
        ..config.groups
    };
    config.files = Files {
        bytes_max: new.files.bytes_max,
        links_valid_s: new.files.links_valid_s,
        types: new.files.types.clone(),
        user_bytes_per_day: new.files.user_bytes_per_day,
        user_uploads_per_day: new.files.user_uploads_per_day,
        ..config.files
    };
    config.hook = new.hook.clone();
    config.push = Push { enabled: now.push.enabled, ..new.push.clone() };
    config.webhooks = new.webhooks.clone();
    config.profiles.changes_per_minute = new.profiles.changes_per_minute;
    config.drain = new.drain.clone();
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
        let sample = include_str!("../../../deploy/config/gateway.toml");
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(&file, with_other_values(sample)).unwrap();
        let new: Config =
            shared::config::load_from(Program::Gateway, Some(file.path()), Default::default()).unwrap();
        let old = Config::default();
        let applied = changed_keys(&old, &changed(&old, &new));
        assert_eq!(applied, LIVE);
        assert!(changed_keys(&old, &new).len() > LIVE.len() + 20, "the test changes too few keys");
    }
}
