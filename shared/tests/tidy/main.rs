//! The order of the house, as a test: which file may import which, what has only one place, and how long things may be.
//!
//! A rule that the code does not keep yet in some place has an exception with that place's name. An exception that is
//! not needed any more fails the test, so the list only shrinks.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod exceptions;
mod imports;
mod made_up;
mod rules;
mod source;

use std::path::Path;

use exceptions::EXCEPTIONS;
use rules::{Finding, Layers, check};
use source::{IM_CLIENT, Source, folder_of};

/// From top to bottom.
const CRATES: [Layers; 8] = [
    Layers {
        crate_name: "imctl",
        rows: &[
            "main",
            "config_check conversation dead_letters feed files generated migrate push shards status trace user webhook",
            "arguments context named output prompt text warnings",
            "webhook_arguments",
        ],
        crates: &["gateway", "worker", "filestore", "pushservice", "shared", "proto"],
    },
    Layers {
        crate_name: "gateway",
        rows: &[
            "main",
            "app",
            "http",
            "connection",
            "notifications push",
            "send read typing watches webhooks",
            "presence devices feed files processes views",
            "membership",
            "auth",
            "hub",
            "outbox",
            "batch_loader budget features hook listen outgoing",
            "tls",
            "wire",
            "config",
            "announce id_profile identity key_files origin rates shares write_timeout",
        ],
        crates: &["filestore", "pushservice", "shared", "proto"],
    },
    Layers {
        crate_name: "worker",
        rows: &[
            "main",
            "dead_letters_command",
            "app",
            "shards",
            "announce feed_pruner files intake",
            "settle",
            "commit",
            "config",
        ],
        crates: &["filestore", "shared", "proto"],
    },
    Layers {
        crate_name: "filestore",
        rows: &["store", "link metadata", "picture", "file_name media_type"],
        crates: &["shared"],
    },
    Layers {
        crate_name: "pushservice",
        rows: &[
            "senders",
            "apns fcm web_push",
            "config response truncation",
            "message subscription",
            "collapse_key outcome public_key",
            "base64url clock",
        ],
        crates: &["shared"],
    },
    Layers {
        crate_name: "shared",
        rows: &[
            "advertised_address health_command process ops_listener ops_routes runtime",
            "probes reload shard_follower",
            "mysql redis amqp telemetry",
            "webhook",
            "feed",
            "tls",
            "envelope",
            "message health permission",
            "traces",
            "config",
            "shard_state",
            "shard",
            "conversation targeted_push webhook_signature",
            "ids meta nickname",
            "concurrency_limit",
            "live permits",
            "backoff error_text metrics open_files ops_client pace shutdown",
        ],
        crates: &["proto"],
    },
    Layers {
        crate_name: IM_CLIENT,
        rows: &[
            "builder",
            "client events",
            "people driver",
            "calls",
            "dial",
            "core",
            "queue",
            "event error",
            "closing message",
            "backoff protocol store tokens",
        ],
        crates: &[],
    },
    // Generated: its form is the generator's.
    Layers { crate_name: "proto", rows: &["im.v1"], crates: &[] },
];

#[test]
fn the_code_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = read(&root);
    assert!(sources.len() > 100, "only {} files were found", sources.len());
    let findings = check(&sources, &CRATES);
    let is_excepted = |finding: &&Finding| {
        EXCEPTIONS.iter().any(|(rule, file, subject)| {
            (*rule, *file, *subject) == (finding.rule, finding.file.as_str(), finding.subject.as_str())
        })
    };
    let mut faults: Vec<String> =
        findings.iter().filter(|finding| !is_excepted(finding)).map(ToString::to_string).collect();
    let is_needed = |(rule, file, subject): &&(&str, &str, &str)| {
        findings.iter().any(|finding| {
            (*rule, *file, *subject) == (finding.rule, finding.file.as_str(), finding.subject.as_str())
        })
    };
    let stale = EXCEPTIONS.iter().filter(|exception| !is_needed(exception));
    faults.extend(
        stale.map(|exception| format!("{exception:?} is not needed any more: remove it from the exceptions")),
    );
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// All sources of the crates, by their names relative to `root`.
fn read(root: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    for layers in CRATES {
        let mut folders = vec![format!("{}/src", folder_of(layers.crate_name))];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(root.join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    folders.push(name);
                } else if name.ends_with(".rs") {
                    let text = std::fs::read_to_string(entry.path()).unwrap();
                    sources.push(Source::parse(&name, &text).unwrap());
                }
            }
        }
    }
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    sources
}
