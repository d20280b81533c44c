//! Settings of gateways and workers, as given on a command line.
//!
//! The sample files name every key of each program; a program refuses keys of the other.

use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Begins the name of each environment variable that is a setting.
pub(super) const PREFIX: &str = "IM__";

/// Settings that each process gets for itself.
const LAUNCHERS: [&str; 2] = ["IM__LISTEN__ADDRESS", "IM__OPS__ADDRESS"];

/// The keys of one program, as environment variables.
type Keys = BTreeSet<String>;

static GATEWAY: LazyLock<Keys> = LazyLock::new(|| keys(include_str!("../../../deploy/config/gateway.toml")));
static WORKER: LazyLock<Keys> = LazyLock::new(|| keys(include_str!("../../../deploy/config/worker.toml")));

/// One of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Gateway,
    Worker,
}

impl Program {
    /// Whether the environment variable `key` may be given to it: all but settings that only the other one has. Each
    /// program refuses keys that no program has.
    pub(super) fn takes(self, key: &str) -> bool {
        let (own, other) = match self {
            Self::Gateway => (&GATEWAY, &WORKER),
            Self::Worker => (&WORKER, &GATEWAY),
        };
        own.contains(key) || !other.contains(key)
    }
}

/// Parses `KEY=VALUE`, with the key as in the files (`limits.batches_at_once`) or as in the environment
/// (`IM__LIMITS__BATCHES_AT_ONCE`). Returns the environment variable and the value.
///
/// # Errors
/// If neither a gateway nor a worker has such a setting, or the launcher decides it: it would have no effect.
pub fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("give KEY=VALUE, such as limits.batches_at_once=8")?;
    let variable = match key.split_once('.') {
        Some((section, name)) => format!("{PREFIX}{section}__{name}").to_uppercase(),
        None => key.to_owned(),
    };
    if LAUNCHERS.contains(&variable.as_str()) {
        return Err(format!("{key} differs from process to process: it is set when each is started"));
    }
    if GATEWAY.contains(&variable) || WORKER.contains(&variable) {
        return Ok((variable, value.to_owned()));
    }
    let name = variable.rsplit("__").next().unwrap_or_default().to_uppercase();
    let mut similar: BTreeSet<_> = GATEWAY
        .union(&WORKER)
        .filter(|known| known.ends_with(&format!("__{name}")))
        .map(|known| in_a_file(known))
        .collect();
    let hint = match similar.pop_first() {
        Some(similar) => format!("did you mean {similar}?"),
        None => "deploy/config/gateway.toml and worker.toml list all settings".to_owned(),
    };
    Err(format!("{key} is no setting of a gateway or a worker; {hint}"))
}

/// `IM__LIMITS__BATCHES_AT_ONCE` as `limits.batches_at_once`.
fn in_a_file(variable: &str) -> String {
    variable.trim_start_matches(PREFIX).replacen("__", ".", 1).to_lowercase()
}

/// The keys of a sample file, those in comments included.
fn keys(sample: &str) -> Keys {
    let mut section = String::new();
    let mut keys = Keys::new();
    for line in sample.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_uppercase();
        }
        let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") else { continue };
        if !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            keys.insert(format!("{PREFIX}{section}__{}", key.to_uppercase()));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_written_as_in_a_file_or_as_in_the_environment() {
        for text in ["limits.batches_at_once=8", "IM__LIMITS__BATCHES_AT_ONCE=8"] {
            assert_eq!(parse_setting(text), Ok(("IM__LIMITS__BATCHES_AT_ONCE".to_owned(), "8".to_owned())));
        }
        // A value may hold the separator.
        let url = parse_setting("mysql.url=mysql://h/s?a=b").unwrap();
        assert_eq!(url, ("IM__MYSQL__URL".to_owned(), "mysql://h/s?a=b".to_owned()));
    }

    #[test]
    fn an_unknown_setting_is_refused_with_a_hint() {
        for (text, hint) in [
            ("batches_at_once=8", "did you mean limits.batches_at_once?"),
            ("limit.batches_at_once=8", "did you mean limits.batches_at_once?"),
            ("IM__LIMITS__BATCHES=8", "deploy/config/gateway.toml"),
            ("PATH=/bin", "is no setting"),
            ("listen.address=0.0.0.0:80", "differs from process to process"),
            ("limits.batches_at_once", "KEY=VALUE"),
        ] {
            let error = parse_setting(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn each_program_takes_its_own_settings_and_those_that_both_have() {
        for (key, gateway, worker) in [
            ("IM__LISTEN__ADDRESS", true, false),
            ("IM__OPS__ADDRESS", true, true),
            ("IM__COMMIT__HOLE_TIMEOUT_MS", false, true),
            ("IM__DRAIN__SPREAD_MS", true, false),
            ("IM__DRAIN__GRACE_MS", false, true),
            ("IM__SHARDS__COUNT", true, true),
            ("IM__AMQP__PREFIX", true, true),
            // For the program to refuse.
            ("IM__NO__SUCH_KEY", true, true),
            ("RUST_BACKTRACE", true, true),
        ] {
            assert_eq!(Program::Gateway.takes(key), gateway, "{key}");
            assert_eq!(Program::Worker.takes(key), worker, "{key}");
        }
    }
}
