//! `worker dead-letters`: what an operator can do about messages that could not be stored.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use shared::amqp::Topology;
use shared::envelope;
use shared::ids::unix_millis;
use shared::mysql::{self, Ping};
use shared::shard::ShardCount;
use worker::config::Config;
use worker::intake::letter_box::{Letter, LetterBox};

/// Bytes of an unreadable body that are shown.
const SHOWN_BYTES_MAX: usize = 256;

/// Look at messages that could never be stored, send them on their way again, or throw them away.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// One line for each: id, age, shard, messages, bytes, reason.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        most: Most,
    },
    /// Everything about one, contents included.
    Show {
        /// As in the list.
        id: String,
        #[command(flatten)]
        most: Most,
    },
    /// Publish them for the workers again. What is stored already is not stored twice; what still cannot be stored comes
    /// back.
    Replay(Which),
    /// Throw them away for ever.
    Drop(Which),
}

/// How many are looked through.
#[derive(Debug, Args)]
pub(crate) struct Most {
    /// Look through no more than so many, the oldest first.
    #[arg(long, default_value_t = 10_000)]
    most: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// As in the list; several may be given.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// Every one that is there now.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    most: Most,
}

impl DeadLetters {
    /// Does it, and prints what was done.
    pub(crate) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let configured = config.shards.checked()?;
        let shards = if matches!(self, Self::Replay(_)) {
            // A number of shards that is not the deployment's would send messages astray.
            let pool = mysql::connect(&config.mysql, Ping::Never, config.start.wait()).await?;
            mysql::settings::shard_count(&pool, configured).await?
        } else {
            configured.unwrap_or(ShardCount::DEFAULT)
        };
        let topology = Topology::new(&config.amqp.prefix, shards);
        let office = LetterBox::open(&config.amqp, topology).await?;
        let letters = office.take(self.most()).await?;
        let kept = self.each(&office, letters).await;
        let (kept, done) = match kept {
            Ok(kept) => (kept, Ok(())),
            // Closing the connection puts back whatever was not answered for.
            Err(error) => (Vec::new(), Err(error)),
        };
        office.close(&kept).await?;
        done
    }

    fn most(&self) -> usize {
        match self {
            Self::List { most, .. } | Self::Show { most, .. } => most.most,
            Self::Replay(which) | Self::Drop(which) => which.most.most,
        }
    }

    /// Returns those that stay.
    async fn each(self, office: &LetterBox, letters: Vec<Letter>) -> anyhow::Result<Vec<Letter>> {
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
                must_be_there(std::slice::from_ref(&id), &letters)?;
                letters
                    .iter()
                    .filter(|letter| letter.id == id)
                    .for_each(|letter| println!("{}", whole(letter)));
                Ok(letters)
            }
            Self::Replay(which) => {
                let (chosen, kept) = which.divide(letters)?;
                for letter in &chosen {
                    office.replay(letter).await?;
                    println!("replayed {}", line(letter));
                }
                println!("{} replayed, {} left", chosen.len(), kept.len());
                Ok(kept)
            }
            Self::Drop(which) => {
                let (chosen, kept) = which.divide(letters)?;
                for letter in &chosen {
                    office.discard(letter).await?;
                    println!("dropped {}", line(letter));
                }
                println!("{} dropped, {} left", chosen.len(), kept.len());
                Ok(kept)
            }
        }
    }
}

impl Which {
    /// Those that are meant, and the others.
    fn divide(&self, letters: Vec<Letter>) -> anyhow::Result<(Vec<Letter>, Vec<Letter>)> {
        must_be_there(&self.ids, &letters)?;
        Ok(letters.into_iter().partition(|letter| self.all || self.ids.contains(&letter.id)))
    }
}

fn must_be_there(ids: &[String], letters: &[Letter]) -> anyhow::Result<()> {
    for id in ids {
        anyhow::ensure!(letters.iter().any(|letter| letter.id == *id), "there is no dead letter {id}");
    }
    Ok(())
}

fn line(letter: &Letter) -> String {
    let shard = letter.shard.map_or("?".to_owned(), |shard| shard.to_string());
    let (age, messages, bytes) = (age(letter.time_ms), letter.messages(), letter.body.len());
    format!(
        "{}  {age:>8}  shard {shard:>3}  {messages:>3} messages  {bytes:>6} bytes  {}",
        letter.id, letter.reason
    )
}

fn json_line(letter: &Letter) -> String {
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

/// With contents: an operator asked for exactly this one.
fn whole(letter: &Letter) -> String {
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
