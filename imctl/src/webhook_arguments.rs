//! The command line of `imctl webhook`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What a webhook is set to.
#[derive(Debug, Args)]
pub(crate) struct WebhookSettings {
    /// Types of events, separated by commas: message, voided, corrected, refused, group, profile. Empty: all.
    #[arg(long, value_name = "LIST")]
    pub(crate) event_types: Option<String>,
    /// Conversations, separated by commas: private, group, or what ids of groups begin with, group_support_. Empty: all.
    #[arg(long, value_name = "LIST")]
    pub(crate) conversations: Option<String>,
    /// Events of one call, at most (1 to 500).
    #[arg(long, value_name = "N")]
    pub(crate) batch_events: Option<u32>,
    /// Bytes of the events of one call, at most (1024 to 1048576).
    #[arg(long, value_name = "N")]
    pub(crate) batch_bytes: Option<u32>,
    /// Configuration of the gateway, for the networks that may be called. Without it, /etc/im/gateway.toml if that exists;
    /// otherwise only the environment.
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: Option<PathBuf>,
}

/// Where a webhook goes on.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ReplayPlace {
    /// After this cursor; with --shard.
    #[arg(long, requires = "shard")]
    pub(crate) cursor: Option<String>,
    /// With the oldest event that is kept.
    #[arg(long)]
    pub(crate) oldest: bool,
    /// After all events that there are: what the endpoint has not received is skipped.
    #[arg(long)]
    pub(crate) latest: bool,
    /// With the first event that was written at this time or later, in milliseconds since 1970.
    #[arg(long, value_name = "MS")]
    pub(crate) since_ms: Option<i64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// List them with state and lag.
    #[command(
        after_help = "Examples:\n  imctl webhook list\n  imctl webhook list --json | jq '.webhooks[].state'"
    )]
    List,
    /// Show one with its settings, and with place, lag and last error in each shard of the change feed.
    ///
    /// Exit code 1 if it is failing.
    #[command(after_help = "Example:\n  imctl webhook show 3f0c52d1a07be894")]
    Show {
        /// Id from the list.
        id: String,
    },
    /// Add one. It gets the events that come from now on. Its secret is printed once.
    #[command(
        after_help = "Example:\n  imctl webhook add --name 'search index' --url https://app.example/events --event-types message"
    )]
    Add {
        /// What it is for.
        #[arg(long)]
        name: String,
        /// Where calls go.
        #[arg(long)]
        url: String,
        /// A file with the secret, whsec_ and base64. Without it, a new one is made.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        #[command(flatten)]
        settings: WebhookSettings,
    },
    /// Change the settings that are given. All gateways follow within a second.
    #[command(after_help = "Example:\n  imctl webhook set 3f0c52d1a07be894 --url https://app.example/events")]
    Set {
        /// Id from the list.
        id: String,
        /// What it is for.
        #[arg(long)]
        name: Option<String>,
        /// Where calls go.
        #[arg(long)]
        url: Option<String>,
        #[command(flatten)]
        settings: WebhookSettings,
    },
    /// Remove one, and forget how far it has come.
    #[command(after_help = "Example:\n  imctl webhook remove 3f0c52d1a07be894 --yes")]
    Remove {
        /// Id from the list.
        id: String,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
    /// Stop one until it is resumed.
    #[command(after_help = "Example:\n  imctl webhook pause 3f0c52d1a07be894")]
    Pause {
        /// Id from the list.
        id: String,
    },
    /// Let one go on where it was paused.
    #[command(after_help = "Example:\n  imctl webhook resume 3f0c52d1a07be894")]
    Resume {
        /// Id from the list.
        id: String,
    },
    /// Send events again, or skip some.
    #[command(
        after_help = "Examples:\n  imctl webhook replay 3f0c52d1a07be894 --oldest\n  imctl webhook replay 3f0c52d1a07be894 --shard 0 --cursor 812"
    )]
    Replay {
        /// Id from the list.
        id: String,
        /// In this shard of the change feed. Without it, in all.
        #[arg(long)]
        shard: Option<u16>,
        #[command(flatten)]
        place: ReplayPlace,
    },
    /// Make another secret, and print it once.
    #[command(after_help = "Example:\n  imctl webhook rotate 3f0c52d1a07be894 --keep-old-s 3600")]
    Rotate {
        /// Id from the list.
        id: String,
        /// How long the old secret signs too, in seconds.
        #[arg(long, value_name = "S", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(0..=2_592_000))]
        keep_old_s: u32,
        /// A file with the secret, whsec_ and base64. Without it, a new one is made.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    /// Call the endpoint once from this machine, and show what came back.
    ///
    /// Exit code 1 if it did not answer with 2xx. The gateways call it from their own machines: POST
    /// /api/admin/webhooks/ID/test.
    #[command(after_help = "Example:\n  imctl webhook test 3f0c52d1a07be894")]
    Test {
        /// Id from the list.
        id: String,
        /// Configuration of the gateway, for the networks that may be called. Without it, /etc/im/gateway.toml if that
        /// exists; otherwise only the environment.
        #[arg(long, value_name = "FILE")]
        gateway: Option<PathBuf>,
    },
}
