//! Comparison of a configuration with the sample file that documents it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// The keys that only one of `config` and `sample` has: `limits.connections_max`. Empty if they agree.
///
/// The keys of `config` are the field names in its `Debug` form, those of `sample`, the text of a TOML file, its
/// assignments. A key without default counts if it is shown as a comment: `# count = 2`.
#[must_use]
pub fn differing_keys(config: &impl Debug, sample: &str) -> Vec<String> {
    let (config, sample) = (debug_keys(&format!("{config:#?}")), toml_keys(sample));
    config.symmetric_difference(&sample).cloned().collect()
}

/// A key that has another value in a second configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `limits.connections_max`
    pub key: String,
    /// Its value in the first configuration.
    pub from: String,
    /// Its value in the second one.
    pub to: String,
}

/// The keys of which two configurations have different values, sorted. Secrets are not shown, and not compared.
#[must_use]
pub fn differences<C: Debug>(one: &C, other: &C) -> Vec<Difference> {
    let (one, other) = (debug_values(&format!("{one:#?}")), debug_values(&format!("{other:#?}")));
    let keys = one.keys().chain(other.keys()).collect::<BTreeSet<_>>();
    let differing = keys.into_iter().filter(|key| one.get(*key) != other.get(*key));
    let value = |values: &BTreeMap<String, String>, key| values.get(key).cloned().unwrap_or_default();
    differing
        .map(|key| Difference { key: key.clone(), from: value(&one, key), to: value(&other, key) })
        .collect()
}

/// The keys of [`differences`].
#[must_use]
pub fn changed_keys<C: Debug>(one: &C, other: &C) -> Vec<String> {
    differences(one, other).into_iter().map(|difference| difference.key).collect()
}

/// The text of a TOML file in which each number and truth value, each empty text, and some other values are other ones: for tests
/// of what a changed configuration changes.
#[must_use]
pub fn with_other_values(sample: &str) -> String {
    let other = |line: &str| {
        let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
            return line.to_owned();
        };
        let value = match (value, value.parse::<u64>()) {
            (_, Ok(number)) => (number + 1).to_string(),
            ("true", _) => "false".to_owned(),
            ("false", _) => "true".to_owned(),
            ("[\"*/*\"]", _) => "[\"image/*\"]".to_owned(),
            ("\"\"", _) => "\"https://x.example\"".to_owned(),
            (url, _) if url.starts_with("\"https://") => "\"https://x.example\"".to_owned(),
            ("\"refuse\"", _) => "\"allow\"".to_owned(),
            (list, _) if list.starts_with("[\"") => "[\"x\"]".to_owned(),
            _ if key == "filter" => "\"trace\"".to_owned(),
            _ => value.to_owned(),
        };
        format!("{key} = {value}")
    };
    sample.lines().map(other).collect::<Vec<_>>().join("\n")
}

/// All keys of a configuration, sorted.
#[must_use]
pub fn keys(config: &impl Debug) -> Vec<String> {
    debug_values(&format!("{config:#?}")).into_keys().collect()
}

/// In the pretty form, sections are indented by four spaces, their keys by eight, and the rest of a value by more.
fn debug_values(text: &str) -> BTreeMap<String, String> {
    let (mut section, mut key) = ("", String::new());
    let mut values = BTreeMap::new();
    for line in text.lines() {
        let rest = line.trim_start();
        match (line.len() - rest.len(), rest.split_once(": ")) {
            (4, Some((name, _))) => section = name,
            (8, Some((name, value))) => {
                key = format!("{section}.{name}");
                values.insert(key.clone(), value.trim_end_matches(',').to_owned());
            }
            (8.., _) => values.entry(key.clone()).or_default().push_str(rest.trim_end_matches(',')),
            _ => {}
        }
    }
    values
}

/// In the pretty form, sections are indented by four spaces and their keys by eight.
fn debug_keys(text: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let name = line.trim_start();
        let indentation = line.len() - name.len();
        let Some((name, value)) = name.split_once(": ") else { continue };
        if indentation == 4 && value.ends_with('{') {
            section = name;
        } else if indentation == 8 {
            keys.insert(format!("{section}.{name}"));
        }
    }
    keys
}

pub(super) fn toml_keys(text: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        }
        let assignment = line.strip_prefix("# ").unwrap_or(line);
        if let Some((name, _)) = assignment.split_once(" = ")
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            keys.insert(format!("{section}.{name}"));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Log, Shards};

    #[derive(Debug, Default)]
    struct Config {
        #[expect(dead_code, reason = "for its Debug form")]
        shards: Shards,
        #[expect(dead_code, reason = "for its Debug form")]
        log: Log,
    }

    #[test]
    fn keys_that_one_side_lacks_are_named() {
        let config = Config::default();
        let complete =
            "[shards]\n# The number of shards.\n# count = 2\n[log]\nformat = \"human\"\nfilter = \"info\"\n";
        assert_eq!(differing_keys(&config, complete), [""; 0]);
        let lacking = complete.replace("filter = \"info\"\n", "");
        assert_eq!(differing_keys(&config, &lacking), ["log.filter"]);
        let unknown = format!("{complete}color = true\n");
        assert_eq!(differing_keys(&config, &unknown), ["log.color"]);
    }
}
