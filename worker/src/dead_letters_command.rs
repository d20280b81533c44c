//! `worker dead-letters`: lists, shows, replays and drops messages that could not be stored.

use std::fmt::Write as _;
use std::pin::Pin;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use shared::amqp::Topology;
use shared::config::ConfigError;
use shared::envelope;
use shared::ids::unix_millis;
use shared::mysql::{self, Ping};
use shared::process;
use shared::shard::ShardLayout;

use crate::config::Config;
use crate::intake::dead_letter_queue::{DeadLetter, DeadLetterQueue};

/// Bytes of a body that are shown if it cannot be decoded.
const SHOWN_BYTES_MAX: usize = 256;

/// List, show, replay or drop messages that could not be stored.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Print one line per dead letter: id, age, shard, messages, bytes, reason.
    List {
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
        /// How many are considered.
        #[command(flatten)]
        most: Most,
    },
    /// Print one dead letter in full, contents included.
    Show {
        /// Id from the list.
        id: String,
        /// How many are considered.
        #[command(flatten)]
        most: Most,
    },
    /// Publish dead letters for the workers again. A message that is stored already is not stored twice; a message that
    /// still cannot be stored becomes a dead letter again.
    Replay(Selection),
    /// Remove dead letters for good.
    Drop(Selection),
}

/// How many are considered.
#[derive(Debug, Args)]
pub struct Most {
    /// Consider at most this many dead letters, the oldest first.
    #[arg(long, default_value_t = 10_000)]
    most: usize,
}

/// Which of them.
#[derive(Debug, Args)]
pub struct Selection {
    /// Ids from the list.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All dead letters.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    most: Most,
}

/// Runs the command, prints its result, and returns the exit code of the process.
///
/// The future is a trait object: its code is then compiled with this library, and not once more with the program.
#[must_use]
pub fn run(
    command: DeadLettersCommand,
    config: Result<Config, ConfigError>,
) -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(process::run("worker", config, async |config: Config| {
        shared::tls::init();
        command.run(&config).await
    }))
}

impl DeadLettersCommand {
    async fn run(self, config: &Config) -> anyhow::Result<()> {
        let configured = config.shards.checked()?;
        let shards = if matches!(self, Self::Replay(_)) {
            // With another number of shards than the deployment's, messages would go to the wrong queues.
            let pool = mysql::connect(&config.mysql, Ping::Never, config.start.wait()).await?;
            let state = mysql::settings::first_shard_state(&pool, configured).await?;
            anyhow::ensure!(
                state.change.is_none(),
                "the number of shards is being changed ({state}): replay when `imctl status` shows no change"
            );
            state.current
        } else {
            configured.unwrap_or(ShardLayout::DEFAULT)
        };
        let topology = Topology::new(&config.amqp.prefix, shards);
        let queue = DeadLetterQueue::open(&config.amqp, topology).await?;
        let letters = queue.take(self.most()).await?;
        let (remaining, result) = match self.execute(&queue, letters).await {
            Ok(remaining) => (remaining, Ok(())),
            // Closing the connection returns all that were not acknowledged.
            Err(error) => (Vec::new(), Err(error)),
        };
        queue.close(&remaining).await?;
        result
    }

    fn most(&self) -> usize {
        match self {
            Self::List { most, .. } | Self::Show { most, .. } => most.most,
            Self::Replay(selection) | Self::Drop(selection) => selection.most.most,
        }
    }

    /// Returns the dead letters that remain in the queue.
    async fn execute(
        self,
        queue: &DeadLetterQueue,
        letters: Vec<DeadLetter>,
    ) -> anyhow::Result<Vec<DeadLetter>> {
        match self {
            Self::List { json, .. } => {
                for letter in &letters {
                    println!("{}", if json { json_line(letter) } else { line(letter) });
                }
                if !json {
                    println!("{} dead letters", letters.len());
                }
                Ok(letters)
            }
            Self::Show { id, .. } => {
                ensure_all_exist(std::slice::from_ref(&id), &letters)?;
                letters
                    .iter()
                    .filter(|letter| letter.id == id)
                    .for_each(|letter| println!("{}", in_full(letter)));
                Ok(letters)
            }
            Self::Replay(selection) => {
                let (selected, remaining) = selection.split(letters)?;
                for letter in &selected {
                    queue.replay(letter).await?;
                    println!("replayed {}", line(letter));
                }
                println!("{} replayed, {} left", selected.len(), remaining.len());
                Ok(remaining)
            }
            Self::Drop(selection) => {
                let (selected, remaining) = selection.split(letters)?;
                for letter in &selected {
                    queue.discard(letter).await?;
                    println!("dropped {}", line(letter));
                }
                println!("{} dropped, {} left", selected.len(), remaining.len());
                Ok(remaining)
            }
        }
    }
}

impl Selection {
    /// The selected dead letters, and the others.
    fn split(&self, letters: Vec<DeadLetter>) -> anyhow::Result<(Vec<DeadLetter>, Vec<DeadLetter>)> {
        ensure_all_exist(&self.ids, &letters)?;
        Ok(letters.into_iter().partition(|letter| self.all || self.ids.contains(&letter.id)))
    }
}

fn ensure_all_exist(ids: &[String], letters: &[DeadLetter]) -> anyhow::Result<()> {
    for id in ids {
        anyhow::ensure!(letters.iter().any(|letter| letter.id == *id), "there is no dead letter {id}");
    }
    Ok(())
}

fn line(letter: &DeadLetter) -> String {
    let shard = letter.shard.map_or("?".to_owned(), |shard| shard.to_string());
    let (age, messages, bytes) = (age(letter.time_ms), letter.messages(), letter.body.len());
    format!(
        "{}  {age:>8}  shard {shard:>3}  {messages:>3} messages  {bytes:>6} bytes  {}",
        letter.id, letter.reason
    )
}

fn json_line(letter: &DeadLetter) -> String {
    serde_json::json!({
        "id": letter.id, "time_ms": letter.time_ms, "shard": letter.shard, "messages": letter.messages(),
        "bytes": letter.body.len(), "reason": letter.reason,
    })
    .to_string()
}

fn age(time_ms: Option<i64>) -> String {
    let Some(time_ms) = time_ms else { return "?".to_owned() };
    match (unix_millis() - time_ms) / 1_000 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Contents included: an operator asked for exactly this one.
fn in_full(letter: &DeadLetter) -> String {
    let mut text = line(letter);
    match envelope::decode_batch(&letter.body) {
        Ok(batch) => {
            let _ = write!(text, "\nmeant for shard {}", batch.shard);
            for message in batch.messages {
                let _ = write!(text, "\n{message:#?}");
            }
            for (error, _) in batch.refused {
                let _ = write!(text, "\na message that cannot be stored: {error}");
            }
        }
        Err(error) => {
            let shown = &letter.body[..letter.body.len().min(SHOWN_BYTES_MAX)];
            let _ = write!(text, "\n{error}; it begins with {}", shown.escape_ascii());
        }
    }
    text
}
