//! One run: load, faults, rest, verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;
use crate::inflict::Inflictor;
use crate::monitor::{Longest, Monitor, Watched};
use testbed::client::{Assignment, Client, Pace, Reader, Reading, Report, Sender, Sent};
use testbed::judge::{Lists, Verdict, judge_and_keep, judge_follower};
use testbed::stack::{System, wait_for};

/// Load before the first fault and after the last one.
const QUIET: Duration = Duration::from_secs(3);
/// Longest that it may take until nobody waits and nobody is behind.
const REST_PATIENCE: Duration = Duration::from_secs(90);
/// Longest that senders may take for their last messages: they give up after two minutes without success.
const FINISH_PATIENCE: Duration = Duration::from_secs(150);
/// For one fresh message to be pushed to everyone.
const PUSH_PATIENCE: Duration = Duration::from_secs(3);
/// Fresh messages that a connection may miss before it counts as deaf. A push may be lost, and is repaired by a pull.
const PUSHES_MISSED_MAX: usize = 6;
/// Seconds after which the moments of sending come again; the last of them is a burst.
const PERIOD: Duration = Duration::from_secs(10);
/// How much faster a burst is.
const BURST: f64 = 5.0;
/// Bytes of a message.
const SIZE: usize = 300;
/// Groups at least; there are half as many private conversations.
const GROUPS_MIN: usize = 6;
/// Senders in a group.
const GROUP_SENDERS: usize = 2;
/// Readers in a group at least, and at most while there are fewer groups than messages.
const GROUP_READERS: [usize; 2] = [2, 20];
/// Readers that connect at once in the beginning.
const CONNECTING_AT_ONCE: usize = 64;
/// Pause between two faults of a mix, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 0..4_000;

/// What happens in a run.
#[derive(Debug, Clone)]
pub enum Course {
    /// These faults, each when the one before has been overcome.
    Each(Vec<Fault>),
    /// Any of them, by chance, one after the other with hardly a pause, for so long.
    Mix(Duration),
}

/// A run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What happens.
    pub course: Course,
    /// Decides what chance decides.
    pub seed: u64,
    /// Messages per second in all, beside the bursts.
    pub per_second: f64,
    /// Readers at least.
    pub readers: usize,
}

/// What one fault did.
#[derive(Debug, Clone, Serialize)]
pub struct Inflicted {
    /// Its name.
    pub fault: String,
    /// To which gateway or worker.
    pub to: usize,
    /// From its begin until what was broken ran again.
    pub lasted_s: f64,
    /// From then on until nobody waited for longer than a second. Not known within a mix, except of the last.
    pub recovered_after_s: Option<f64>,
    /// The longest time in which no message was accepted from anyone.
    pub silence_s: f64,
    /// The longest that one message waited to be accepted.
    pub longest_answer_s: f64,
    /// The longest that a reader was without a message that had been accepted.
    pub longest_lag_s: f64,
    /// Of a hundred messages, 99 were accepted within so many milliseconds.
    pub p99_ms: f64,
    /// Answers 429 and 503.
    pub refused: u64,
    /// Readers that lost their connection, and the seconds after which so many of a hundred of them were connected again
    /// and had pulled all that they had missed.
    pub returned: usize,
    /// See [`returned`](Self::returned): 50, 99 and 100 of a hundred.
    pub returned_after_s: [f64; 3],
    /// It could not be done, or something did not come back.
    pub error: Option<String>,
}

/// What is going on.
#[derive(Debug)]
pub enum News<'a> {
    /// At this moment.
    Doing(String),
    /// A fault has been overcome.
    Done(&'a Inflicted),
}

impl fmt::Display for Inflicted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recovered = self.recovered_after_s.map_or("-".to_owned(), |s| format!("{s:.1} s"));
        write!(
            f,
            "{:<24} {:>2} {:>6.1} s {:>9} {:>6.1} s {:>6.1} s {:>6.1} s {:>7.0} ms {:>8}",
            self.fault,
            self.to,
            self.lasted_s,
            recovered,
            self.silence_s,
            self.longest_answer_s,
            self.longest_lag_s,
            self.p99_ms,
            self.refused
        )?;
        if self.returned > 0 {
            let [half, most, all] = self.returned_after_s;
            write!(
                f,
                "  {} readers were back after {half:.1} s (half), {most:.1} s (99 %), {all:.1} s",
                self.returned
            )?;
        }
        self.error.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl Inflicted {
    /// Heads a table of them.
    pub const HEAD: &str =
        "fault                    to   lasted recovered  silence   answer      lag        p99  refused";
}

/// What became of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// As given.
    pub seed: u64,
    /// One by one.
    pub faults: Vec<Inflicted>,
    /// Messages accepted.
    pub acked: u64,
    /// Messages whose sender was told another number later on.
    pub corrected: u64,
    /// Times that a sender or reader connected again.
    pub reconnects: u64,
    /// Senders that never got an answer to everything: what they say.
    pub unanswered: Vec<String>,
    /// Connections that are alive and got no fresh message pushed.
    pub deaf: Vec<String>,
    /// It took too long until nobody waited any more.
    pub restless: bool,
    /// The judge's.
    pub verdict: Verdict,
}

impl Outcome {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdict.is_good()
            && self.unanswered.is_empty()
            && self.deaf.is_empty()
            && !self.restless
            && self.faults.iter().all(|fault| fault.error.is_none())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, acked, corrected, reconnects, .. } = self;
        writeln!(f, "seed {seed}, {acked} acked, {corrected} corrected, {reconnects} reconnects")?;
        for (what, who) in [("unanswered", &self.unanswered), ("deaf", &self.deaf)] {
            for one in who {
                writeln!(f, "{what}: {one}")?;
            }
        }
        if self.restless {
            writeln!(f, "it took too long until nobody waited any more")?;
        }
        write!(f, "promises {}", self.verdict)
    }
}

/// What a mix is made of: everything that leaves the machine as it was, and does not take a minute.
fn in_a_mix() -> Vec<Fault> {
    let no = [Fault::Nothing, Fault::MysqlAway, Fault::DiskFull, Fault::VersionChange];
    Fault::all().filter(|fault| !no.contains(fault)).collect()
}

/// Runs it. `system` must be linked, with servers of its own; `tell` hears what is going on.
///
/// # Errors
/// If something cannot be broken, or does not come back at all.
pub async fn run(
    system: &mut System,
    options: &Options,
    tell: impl Fn(News<'_>) + Send + Sync,
) -> anyhow::Result<Outcome> {
    let report = Arc::new(Report::default());
    let mut crowd = Crowd::start(system, options, &report).await?;
    let monitor = Arc::new(Monitor::new(std::mem::take(&mut crowd.watched), Arc::clone(&report)));
    let watching = tokio::spawn({
        let monitor = Arc::clone(&monitor);
        async move { monitor.run().await }
    });
    let doing = Mutex::new("begins".to_owned());
    let broken = async {
        tokio::time::sleep(QUIET).await;
        let news = |news: News<'_>| match news {
            News::Doing(what) => *doing.lock() = what,
            done => tell(done),
        };
        break_things(system, options, &monitor, &report, &crowd.readers, news).await
    };
    let (faults, restless) = tokio::select! {
        broken = broken => broken?,
        never = tell_on(&monitor, &report, &doing, &tell) => match never {},
    };
    tokio::time::sleep(QUIET).await;
    watching.abort();
    tell(News::Doing("the last messages".to_owned()));
    let (mut senders, unanswered) = crowd.finish_senders().await;
    tell(News::Doing("a fresh message for everyone".to_owned()));
    let gateways = system.ws_urls();
    let deaf = deaf(&gateways, &mut senders, &crowd.readers).await?;
    tell(News::Doing("judging".to_owned()));
    let (mut verdict, lists) = judge_and_keep(&gateways, &senders).await?;
    let readers = crowd.finish_readers(&lists).await?;
    for reader in &readers {
        judge_follower(reader, lists.get(&reader.conversation).map_or(&[], Vec::as_slice), &mut verdict);
    }
    let by_readers: usize = readers.iter().map(|reader| reader.reconnects).sum();
    Ok(Outcome {
        seed: options.seed,
        faults,
        acked: report.acked.load(Ordering::Relaxed),
        corrected: report.corrected.load(Ordering::Relaxed),
        reconnects: report.reconnects.load(Ordering::Relaxed) + by_readers as u64,
        unanswered,
        deaf,
        restless,
        verdict,
    })
}

/// Tells again and again how it goes.
async fn tell_on(
    monitor: &Monitor,
    report: &Report,
    doing: &Mutex<String>,
    tell: &(impl Fn(News<'_>) + Sync),
) -> Infallible {
    loop {
        let Longest { answer, lag, .. } = monitor.now();
        tell(News::Doing(format!(
            "{} | {} acked, {} refused, longest wait {:.1} s, lag {:.1} s",
            doing.lock(),
            report.acked.load(Ordering::Relaxed),
            report.refused.load(Ordering::Relaxed),
            answer.as_secs_f64(),
            lag.as_secs_f64()
        )));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn break_things(
    system: &mut System,
    options: &Options,
    monitor: &Monitor,
    report: &Report,
    readers: &[Known],
    tell: impl Fn(News<'_>),
) -> anyhow::Result<(Vec<Inflicted>, bool)> {
    let mut chance = StdRng::seed_from_u64(options.seed);
    let services = system.gateway_count().min(system.worker_count());
    let groups: BTreeSet<_> = readers.iter().map(|(group, ..)| group.clone()).collect();
    let groups = groups.into_iter().filter(|group| group.starts_with("group_")).collect();
    let mut inflictor = Inflictor::new(system, groups);
    let mut inflicted: Vec<Inflicted> = Vec::new();
    let mut one = async |fault: Fault, to: usize, what: String| {
        tell(News::Doing(what));
        let refused = report.refused.load(Ordering::Relaxed);
        monitor.take_longest();
        report.take_latency(0.99);
        let begun = Instant::now();
        let done = inflictor.inflict(fault, to).await;
        (
            Inflicted {
                fault: fault.name(),
                to,
                lasted_s: begun.elapsed().as_secs_f64(),
                recovered_after_s: None,
                silence_s: 0.0,
                longest_answer_s: 0.0,
                longest_lag_s: 0.0,
                p99_ms: 0.0,
                refused: 0,
                returned: 0,
                returned_after_s: [0.0; 3],
                error: done.err().map(|error| format!("{error:#}")),
            },
            (refused, begun),
        )
    };
    let finish = |one: &mut Inflicted, (refused, begun): (u64, Instant)| {
        let mut back: Vec<_> = readers
            .iter()
            .filter_map(|(.., reading)| {
                Some(reading.current_since()?.checked_duration_since(begun)?.as_secs_f64())
            })
            .collect();
        back.sort_unstable_by(f64::total_cmp);
        if let Some(last) = back.len().checked_sub(1) {
            one.returned = back.len();
            one.returned_after_s = [back[last / 2], back[last * 99 / 100], back[last]];
        }
        let Longest { silence, answer, lag } = monitor.take_longest();
        one.p99_ms = report.take_latency(0.99).as_secs_f64() * 1_000.0;
        one.silence_s = silence.as_secs_f64();
        one.longest_answer_s = answer.as_secs_f64();
        one.longest_lag_s = lag.as_secs_f64();
        one.refused = report.refused.load(Ordering::Relaxed) - refused;
    };
    let mut restless = false;
    match &options.course {
        Course::Each(faults) => {
            for fault in faults {
                let to = chance.random_range(0..services);
                let (mut done, refused) = one(*fault, to, fault.to_string()).await;
                let rested = monitor.at_rest(REST_PATIENCE).await;
                restless |= rested.is_none();
                done.recovered_after_s = rested.map(|after| after.as_secs_f64());
                finish(&mut done, refused);
                tell(News::Done(&done));
                inflicted.push(done);
            }
        }
        Course::Mix(duration) => {
            let (faults, until) = (in_a_mix(), Instant::now() + *duration);
            loop {
                let fault = *faults.choose(&mut chance).context("there are faults")?;
                let (to, pause) = (chance.random_range(0..services), chance.random_range(PAUSE_MS));
                let what = format!("{fault} (number {})", inflicted.len() + 1);
                let (mut done, refused) = one(fault, to, what).await;
                let last = Instant::now() >= until;
                if last {
                    tell(News::Doing("coming to rest".to_owned()));
                    let rested = monitor.at_rest(REST_PATIENCE).await;
                    restless = rested.is_none();
                    done.recovered_after_s = rested.map(|after| after.as_secs_f64());
                } else {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                finish(&mut done, refused);
                tell(News::Done(&done));
                inflicted.push(done);
                if last {
                    break;
                }
            }
        }
    }
    Ok((inflicted, restless))
}

/// A reader: conversation, user, and how far it is.
type Known = (String, String, Arc<Reading>);

/// Everyone who takes part.
struct Crowd {
    sending: JoinSet<(Sender, anyhow::Result<()>)>,
    following: JoinSet<Reader>,
    /// By conversation, for the monitor.
    watched: Vec<Watched>,
    /// By conversation and reader.
    readers: Vec<Known>,
    stop_sending: CancellationToken,
    stop_reading: CancellationToken,
}

impl Crowd {
    async fn start(system: &System, options: &Options, report: &Arc<Report>) -> anyhow::Result<Self> {
        let gateways = system.ws_urls();
        let mut crowd = Self {
            sending: JoinSet::new(),
            following: JoinSet::new(),
            watched: Vec::new(),
            readers: Vec::new(),
            stop_sending: CancellationToken::new(),
            stop_reading: CancellationToken::new(),
        };
        // Another run on the same data has other names.
        let name = &uuid::Uuid::new_v4().simple().to_string()[..6];
        let [few, many] = GROUP_READERS;
        let groups = (options.readers / many).max(GROUPS_MIN);
        let group_readers = (options.readers / groups).max(few);
        let mut conversations: Vec<(String, Vec<String>, Vec<String>)> = (0..groups)
            .map(|g| {
                let senders = (0..GROUP_SENDERS).map(|n| format!("{name}g{g}s{n}")).collect();
                let readers = (0..group_readers).map(|n| format!("{name}g{g}r{n}")).collect();
                (format!("group_{name}g{g}"), senders, readers)
            })
            .collect();
        conversations.extend((0..GROUPS_MIN / 2).map(|p| {
            let (from, to) = (format!("{name}p{p}a"), format!("{name}p{p}b"));
            (format!("private_{from}_{to}"), vec![from], vec![to])
        }));
        let all: usize = conversations.iter().map(|(_, senders, _)| senders.len()).sum();
        let (mut turn, mut index) = (0, 0);
        let mut order = || {
            let mut order = gateways.clone();
            order.rotate_left(turn % gateways.len());
            turn += 1;
            order
        };
        let joining = conversations.iter().flat_map(|(conversation, _, readers)| {
            readers
                .iter()
                .enumerate()
                .map(|(n, user)| join(&gateways[n % gateways.len()], user, conversation))
        });
        // So that they get pushes before anything is sent.
        futures_util::stream::iter(joining).buffer_unordered(CONNECTING_AT_ONCE).try_collect::<()>().await?;
        let start = Instant::now() + Duration::from_millis(500);
        for (conversation, senders, readers) in conversations {
            let mut watched = Watched { senders: Vec::new(), readers: Vec::new() };
            for user in readers {
                let mut reader = Reader::new(user, conversation.clone(), order());
                watched.readers.push(Arc::clone(&reader.reading));
                let known = (conversation.clone(), reader.user.clone(), Arc::clone(&reader.reading));
                crowd.readers.push(known);
                let stop = crowd.stop_reading.clone();
                crowd.following.spawn(async move {
                    reader.run(stop).await;
                    reader
                });
            }
            for user in senders {
                let pace = Pace::Endless {
                    moments: moments(index, all, options.per_second),
                    period: PERIOD,
                    stop: crowd.stop_sending.clone(),
                };
                index += 1;
                let conversation = conversation.clone();
                let assignment = Assignment { conversation, messages: 0, size: SIZE, pace };
                let mut sender = Sender::new(user, assignment, order(), Arc::clone(report))?;
                watched.senders.push(Arc::clone(&sender.progress));
                crowd.sending.spawn(async move {
                    let sent = sender.run(start).await;
                    (sender, sent)
                });
            }
            crowd.watched.push(watched);
        }
        Ok(crowd)
    }

    /// Stops sending, and waits until all is answered.
    async fn finish_senders(&mut self) -> (Vec<Sender>, Vec<String>) {
        self.stop_sending.cancel();
        let (mut senders, mut unanswered) = (Vec::new(), Vec::new());
        let until = Instant::now() + FINISH_PATIENCE;
        while let Ok(Some(done)) = tokio::time::timeout_at(until, self.sending.join_next()).await {
            match done {
                Ok((sender, sent)) => {
                    unanswered.extend(sent.err().map(|error| format!("{error:#}")));
                    senders.push(sender);
                }
                Err(error) => unanswered.push(error.to_string()),
            }
        }
        if !self.sending.is_empty() {
            unanswered.push(format!("{} senders still wait", self.sending.len()));
        }
        (senders, unanswered)
    }

    /// Waits until all readers have everything, and stops them.
    async fn finish_readers(&mut self, lists: &Lists) -> anyhow::Result<Vec<Reader>> {
        // Whoever is not there in time is judged as it is.
        let _ = wait_for("readers", Duration::from_secs(30), async || {
            for (conversation, user, reading) in &self.readers {
                let last = lists.get(conversation).and_then(|list| list.last()).map_or(0, |last| last.seq);
                let cursor = reading.cursor();
                anyhow::ensure!(cursor >= last, "{user} is at {cursor} of {last} in {conversation}");
            }
            Ok(())
        })
        .await;
        self.stop_reading.cancel();
        let mut readers = Vec::new();
        while let Some(reader) = self.following.join_next().await {
            readers.push(reader?);
        }
        Ok(readers)
    }
}

async fn join(gateway: &str, user: &str, conversation: &str) -> anyhow::Result<()> {
    let joined = Client::connect(gateway, user).await?.pull(conversation, 0, 1).await?;
    anyhow::ensure!(joined.code == 0, "{user} cannot join: {}", joined.payload);
    Ok(())
}

/// When one of `all` senders sends within a period: evenly, and faster in its last second.
fn moments(index: usize, all: usize, per_second: f64) -> Arc<[Duration]> {
    #[allow(clippy::cast_precision_loss)] // some dozens
    let (index, all) = (index as f64, all as f64);
    let (period, mut moments) = (PERIOD.as_secs_f64(), Vec::new());
    let mut at = index / per_second;
    while at < period {
        moments.push(Duration::from_secs_f64(at));
        let rate = if at >= period - 1.0 { per_second * BURST } else { per_second };
        at += all / rate;
    }
    moments.into()
}

/// Sends fresh messages until each reader had one pushed on the connection that it has. Returns who had none.
async fn deaf(gateways: &[String], senders: &mut [Sender], readers: &[Known]) -> anyhow::Result<Vec<String>> {
    let mut of: BTreeMap<String, &mut Sender> = BTreeMap::new();
    for sender in senders {
        of.entry(sender.conversation.clone()).or_insert(sender);
    }
    let mut deaf = Vec::new();
    for (turn, (conversation, sender)) in of.into_iter().enumerate() {
        let mut client = Client::connect(&gateways[turn % gateways.len()], &sender.user).await?;
        let concerned: Vec<_> = readers.iter().filter(|(of, ..)| *of == conversation).collect();
        let mut missing = Vec::new();
        for _ in 0..PUSHES_MISSED_MAX {
            let n = sender.sent.len();
            sender.sent.push(Sent { acked: None, repeated: true });
            let seq = client.say(&conversation, &sender.msg_id(n), &sender.content(n)).await?;
            sender.sent[n].acked = Some(seq);
            let heard = wait_for("a push", PUSH_PATIENCE, async || {
                missing = concerned
                    .iter()
                    .filter(|(.., reading)| reading.pushed() < seq)
                    .map(|(_, user, _)| format!("{user} in {conversation}, at {seq}"))
                    .collect();
                anyhow::ensure!(missing.is_empty(), "not everyone heard");
                Ok(())
            });
            if heard.await.is_ok() {
                break;
            }
        }
        deaf.append(&mut missing);
    }
    Ok(deaf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Damage, Wire};

    #[test]
    fn senders_share_the_rate_and_the_burst() {
        let all: usize = (0..4).map(|index| moments(index, 4, 100.0).len()).sum();
        // 9 s at 100, 1 s at 500.
        assert!((1_380..=1_420).contains(&all), "{all}");
    }

    #[test]
    fn a_mix_has_wires_and_processes_but_nothing_that_fills_a_disk() {
        let mix = in_a_mix();
        assert!(mix.contains(&Fault::KillRabbitmq));
        assert!(mix.contains(&Fault::Wire(Damage::Stall, Wire::WorkerMysql)));
        assert!(!mix.contains(&Fault::DiskFull));
    }
}
