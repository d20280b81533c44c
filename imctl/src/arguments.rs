//! The command line.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::webhook_arguments::WebhookCommand;

const COMMIT: &str = shared::build_commit!();

static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (commit {COMMIT})", env!("CARGO_PKG_VERSION")));

/// The operator's command line of the chat backend: what is deployed, what is wrong, and where a message is.
///
/// It reads the stores with the settings of a worker: from --config, IM_CONFIG or /etc/im/worker.toml, and from environment
/// variables (mysql.url is IM__MYSQL__URL). No gateway and no worker needs to run.
///
/// Exit codes: 0 nothing is wrong; 1 something is wrong, as printed; 2 the command could not answer, or its arguments are
/// wrong.
#[derive(Debug, Parser)]
#[command(name = "imctl", version = VERSION.as_str(), max_term_width = 110)]
pub(crate) struct Arguments {
    /// Configuration file of a worker (TOML). Without it, /etc/im/worker.toml if that exists.
    #[arg(long, value_name = "FILE", env = "IM_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document. Its fields are described in docs/imctl.md.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check configurations and the stores that they name.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Bring the schema of MySQL up to date.
    #[command(after_help = "Examples:\n  imctl migrate --dry-run\n  imctl migrate")]
    Migrate {
        /// Print the statements that would run, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show gateways, workers, shards, backlog, dead letters and versions.
    ///
    /// Exit code 1 if something is wrong, such as a shard without a consumer; 2 if a store cannot be reached.
    #[command(after_help = "Examples:\n  imctl status\n  imctl status --json | jq .findings")]
    Status,
    /// List, show, retry or drop messages that could not be stored.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Show or disconnect a user, or issue a token for it.
    #[command(subcommand)]
    User(UserCommand),
    /// Show a conversation, or verify it against MySQL and Redis.
    #[command(subcommand)]
    Conversation(ConversationCommand),
    /// Where is my message? What Redis, RabbitMQ and MySQL know about a message id.
    ///
    /// Without --conversation, Redis is searched for the id, which it remembers for redis.sent_ttl_s; then all conversations
    /// in MySQL, which takes long in a large deployment.
    #[command(
        after_help = "Examples:\n  imctl trace 0199f3c2-71a4 --conversation group_1\n  imctl trace m1 --conversation 'private_alice bob'"
    )]
    Trace {
        /// The message id that the client gave it (msg_id).
        msg_id: String,
        /// Its conversation.
        #[arg(long, value_name = "ID")]
        conversation: Option<String>,
        /// Its sender.
        #[arg(long, value_name = "USER")]
        sender: Option<String>,
    },
    /// Show the shards of the change feed with their oldest and latest cursors.
    ///
    /// The cursors are those of GET /api/admin/feed. docs/feed.md says how a server follows the feed.
    #[command(after_help = "Examples:\n  imctl feed\n  imctl feed --json | jq '.shards[].latest_cursor'")]
    Feed,
    /// Make keys for notifications.
    #[command(subcommand)]
    Push(PushCommand),
    /// List, add, change, pause or replay webhooks, and show how far they have come.
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Compare the files of the database with those of the store.
    #[command(subcommand)]
    Files(FilesCommand),
    /// Plan the number of workers, or change the number of shards.
    #[command(subcommand)]
    Shards(ShardsCommand),
    /// Print the completions for a shell.
    #[command(
        after_help = "Example:\n  imctl completions bash > /usr/share/bash-completion/completions/imctl"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages.
    #[command(after_help = "Example:\n  imctl man /usr/local/share/man/man1")]
    Man {
        /// The folder, which must exist.
        folder: PathBuf,
    },
}

/// A shell with completions.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configurations as the processes do, and try the stores.
    ///
    /// Each finding says whether a process would be refused at its start (error) or logs a warning. Queues and tables are not
    /// made.
    #[command(
        after_help = "Examples:\n  imctl config check\n  imctl config check --gateway gateway.toml --worker worker.toml --offline"
    )]
    Check {
        /// Configuration of the gateway. Without it, /etc/im/gateway.toml if that exists; otherwise only the environment.
        #[arg(long, value_name = "FILE")]
        gateway: Option<PathBuf>,
        /// Configuration of the worker. Without it, that of --config.
        #[arg(long, value_name = "FILE")]
        worker: Option<PathBuf>,
        /// Do not connect to the stores.
        #[arg(long)]
        offline: bool,
    },
}

/// How many dead letters are considered.
#[derive(Debug, Args)]
pub(crate) struct Most {
    /// Consider at most this many dead letters, the oldest first.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) most: usize,
}

/// Some dead letters.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Ids from the list.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<String>,
    /// All dead letters.
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) most: Most,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List them with id, age, shard, number of messages, bytes and reason.
    #[command(
        after_help = "Examples:\n  imctl dead-letters list\n  imctl dead-letters list --json | jq '.dead_letters[].reason'"
    )]
    List(Most),
    /// Show one with the contents of its messages.
    #[command(after_help = "Example:\n  imctl dead-letters show 3f0c52d1a07be894")]
    Show {
        /// Id from the list.
        id: String,
        #[command(flatten)]
        most: Most,
    },
    /// Publish them for the workers again.
    ///
    /// A message that is stored already is not stored twice; one that still cannot be stored becomes a dead letter again.
    /// Each is removed after RabbitMQ has confirmed its copy: nothing is lost if the command is killed.
    #[command(
        after_help = "Examples:\n  imctl dead-letters retry 3f0c52d1a07be894\n  imctl dead-letters retry --all --yes"
    )]
    Retry(Selection),
    /// Remove them for good.
    #[command(after_help = "Example:\n  imctl dead-letters drop 3f0c52d1a07be894")]
    Drop(Selection),
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Show profile, devices, gateways, conversations, blocks and revocation.
    #[command(after_help = "Example:\n  imctl user show alice")]
    Show {
        /// The user's id.
        id: String,
    },
    /// Close the user's connections on all gateways, and revoke its tokens.
    ///
    /// The same as POST /api/admin/users/ID/revoke: tokens that were issued up to now end. The user may log in again.
    #[command(after_help = "Example:\n  imctl user disconnect alice --yes")]
    Disconnect {
        /// The user's id.
        id: String,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
    /// Issue a token for the user, signed with auth.hs256_secret of the gateway.
    ///
    /// The same as POST /api/admin/tokens. The token is printed alone.
    #[command(after_help = "Example:\n  TOKEN=$(imctl user token alice --ttl-s 3600)")]
    Token {
        /// The user's id.
        id: String,
        /// Lifetime in seconds. Without it, auth.token_ttl_s.
        #[arg(long)]
        ttl_s: Option<u64>,
        /// Configuration of the gateway. Without it, /etc/im/gateway.toml if that exists; otherwise only the environment.
        #[arg(long, value_name = "FILE")]
        gateway: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConversationCommand {
    /// Show kind, members, owner, last sequence number, counter and the newest messages without contents.
    #[command(
        after_help = "Examples:\n  imctl conversation show group_1\n  imctl conversation show private_alice_bob"
    )]
    Show {
        /// group_NAME, private_USER_USER or 'private_USER USER'.
        id: String,
        /// How many of the newest messages are shown.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1_000))]
        messages: u32,
    },
    /// Compare the tables of MySQL with each other and with Redis.
    ///
    /// Sequence numbers without a message are listed and are no fault: they were voided, which no table records. Memory is
    /// bounded; a conversation that is written to meanwhile causes no finding.
    #[command(
        after_help = "Examples:\n  imctl conversation verify group_1\n  imctl conversation verify --all --json"
    )]
    Verify {
        /// group_NAME, private_USER_USER or 'private_USER USER'.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// All conversations and all inboxes, in steps.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PushCommand {
    /// Make a pair of keys for Web Push (VAPID).
    ///
    /// The private key is for push.vapid_keys, in front of those that devices have subscribed with. Nothing is stored.
    #[command(
        after_help = "Examples:\n  imctl push vapid-key\n  imctl push vapid-key --json | jq -r .private > vapid.key"
    )]
    VapidKey,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FilesCommand {
    /// Look for each file in the store, and for each object of the store in the database.
    ///
    /// Needs the settings [files] of the workers, and the folder or the bucket. Memory is bounded, and nothing is changed. A
    /// file that is removed meanwhile causes no finding; an upload that is completed meanwhile may be found once.
    #[command(
        after_help = "Examples:\n  imctl files verify\n  imctl files verify --json | jq '.findings[].object_id'"
    )]
    Verify,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ShardsCommand {
    /// Show which worker would own which shard, and how even that is.
    ///
    /// Shards are assigned by the ids of workers, which are random at each start. The live workers are counted first; for
    /// others, ids are drawn. So the table is one example.
    #[command(
        after_help = "Examples:\n  imctl shards plan --workers 3\n  imctl shards plan --workers 4 --shards 16"
    )]
    Plan {
        /// The number of workers.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
        workers: u16,
        /// The number of shards. Without it, that of the deployment.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
        shards: Option<u16>,
    },
    /// Change the number of shards while gateways and workers run.
    ///
    /// Without --apply, shows what would be done and what prevents it, and changes nothing. No message is lost, stored twice or
    /// reordered; gateways hold new messages for a moment, at most 2 s. The command may be interrupted and run again: it goes on
    /// where the change is. Until new messages go to the next queues, the present number gives the change up.
    #[command(after_help = "Examples:\n  imctl shards set 16\n  imctl shards set 16 --apply")]
    Set {
        /// The number of shards.
        #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
        count: u16,
        /// Do it.
        #[arg(long)]
        apply: bool,
    },
}
