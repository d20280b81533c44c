//! The settings of each process, as its sample file shows them.
//!
//! Both processes may get the same environment and the same file, so each ignores the settings that only the other one
//! has. A test of each process proves that its sample file is complete.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::sample::toml_keys;

type Keys = BTreeSet<String>;

static GATEWAY: LazyLock<Keys> =
    LazyLock::new(|| toml_keys(include_str!("../../../deploy/config/gateway.toml")));
static WORKER: LazyLock<Keys> =
    LazyLock::new(|| toml_keys(include_str!("../../../deploy/config/worker.toml")));

/// A process that has a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `gateway`
    Gateway,
    /// `worker`
    Worker,
}

/// The process that has a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// This one, and possibly the other one.
    This,
    /// Only the other one.
    Other,
    /// None.
    Nobody,
}

impl Program {
    /// The owner of the setting `key`, such as `mysql.url`.
    pub(super) fn owner(self, key: &str) -> Owner {
        let (this, other) = match self {
            Self::Gateway => (&GATEWAY, &WORKER),
            Self::Worker => (&WORKER, &GATEWAY),
        };
        match (this.contains(key), other.contains(key)) {
            (true, _) => Owner::This,
            (false, true) => Owner::Other,
            (false, false) => Owner::Nobody,
        }
    }
}

/// Whether `section` is a section of any process.
pub(super) fn is_section(section: &str) -> bool {
    all().any(|key| key.split_once('.').is_some_and(|(known, _)| known == section))
}

/// The setting that was probably meant by the unknown `key`: with the same name in another section, or a similar one.
pub(super) fn similar(key: &str) -> Option<&'static str> {
    let name = key.rsplit('.').next().unwrap_or_default();
    let same_name = || all().find(|known| known.rsplit('.').next() == Some(name));
    let distance = |known: &&str| strsim::damerau_levenshtein(known, key);
    let closest = all().min_by_key(distance).filter(|known| distance(known) <= 3);
    closest.or_else(same_name)
}

fn all() -> impl Iterator<Item = &'static str> {
    GATEWAY.union(&WORKER).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_its_own_settings_and_those_of_both() {
        for (key, gateway, worker) in [
            ("auth.mode", Owner::This, Owner::Other),
            ("listen.address", Owner::This, Owner::Other),
            ("drain.spread_ms", Owner::This, Owner::Other),
            ("drain.grace_ms", Owner::Other, Owner::This),
            ("ops.address", Owner::This, Owner::This),
            ("mysql.url", Owner::This, Owner::This),
            ("shards.count", Owner::This, Owner::This),
            ("mysql.ulr", Owner::Nobody, Owner::Nobody),
            ("auth", Owner::Nobody, Owner::Nobody),
        ] {
            assert_eq!((Program::Gateway.owner(key), Program::Worker.owner(key)), (gateway, worker), "{key}");
        }
        assert!(is_section("commit") && is_section("auth") && !is_section("mysq") && !is_section(""));
    }

    #[test]
    fn a_similar_setting_is_suggested_for_an_unknown_one() {
        for (key, suggestion) in [
            ("mysql.ulr", Some("mysql.url")),
            ("mysq.url", Some("mysql.url")),
            ("auth.moed", Some("auth.mode")),
            ("limits.address", Some("listen.address")),
            ("limit.batches_at_once", Some("limits.batches_at_once")),
            ("gateway.batches_at_once", Some("limits.batches_at_once")),
            ("some.thing_else_altogether", None),
        ] {
            assert_eq!(similar(key), suggestion, "{key}");
        }
    }
}
