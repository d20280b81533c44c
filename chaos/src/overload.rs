//! More than the system can take: every request is answered in time, most of what it can do is still done, memory stays
//! bounded, and afterwards it is at rest within seconds.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use testbed::client::{Assignment, Chat, Client, Pace, Packet, Report, Sender, Sent, chat_frame, websocket};
use testbed::judge::{Verdict, judge};
use testbed::stack::{Direction, End, System, wait_for};

/// Answers after this are late: the server's deadline, and half a second for both networks and a busy machine.
const LATE: Duration = Duration::from_millis(5_500);
/// Messages that a connection leaves unanswered: below what the gateway takes from one, so that none waits in a socket.
const UNANSWERED_MAX: usize = 200;
/// The same while the peak is measured.
const PEAK_WINDOW: usize = 32;
/// Measured after so long, for so long.
const WARM_UP: Duration = Duration::from_secs(3);
const PEAK: Duration = Duration::from_secs(7);
/// Messages that one connection sends at once at most, before it looks for answers.
const AT_ONCE: u32 = 64;
/// How often one connection looks whether something is due, at most.
const TICK: Duration = Duration::from_millis(5);
/// Conversations: enough for all shards.
const GROUPS: usize = 64;
const SIZE: usize = 200;
/// Until a message passes as on any other day.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(60);
/// As on any other day.
const PROMPT: Duration = Duration::from_secs(1);
/// A narrow system's wire to RabbitMQ.
const NARROW: Duration = Duration::from_millis(20);

/// How much.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Overload {
    /// Connections that send.
    pub connections: usize,
    /// How many times what the system can take.
    pub factor: f64,
    /// For how long.
    pub seconds: f64,
    /// Long wires to RabbitMQ, so that the system can take less than the machine that overloads it.
    pub narrow: bool,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Endured {
    /// As given.
    pub overload: Overload,
    /// Messages accepted per second when each waits for answers.
    pub peak_per_second: f64,
    /// Messages sent per second during the overload.
    pub offered_per_second: f64,
    /// Messages accepted per second during the overload.
    pub goodput_per_second: f64,
    /// Answers 429 and 503 during the overload.
    pub refused: u64,
    /// Messages that a client did not send because too many were unanswered.
    pub held_back: u64,
    /// Milliseconds until any answer: 50, 99 and 100 of a hundred.
    pub answer_ms: [f64; 3],
    /// Answers that came too late.
    pub late: u64,
    /// Requests that got no answer at all.
    pub unanswered: u64,
    /// Answers that are neither 0 nor 429 nor 503.
    pub odd: u64,
    /// The most memory that each process had, in MiB.
    pub memory_mib: BTreeMap<String, u64>,
    /// Seconds after the overload until a message was stored as promptly as on any other day.
    pub recovered_after_s: f64,
    /// The judge's.
    pub verdict: Verdict,
}

impl Endured {
    /// Everyone was answered in time, and all that was accepted is there.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdict.is_good() && self.late == 0 && self.unanswered == 0 && self.odd == 0
    }
}

impl fmt::Display for Endured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = self.answer_ms;
        writeln!(f, "peak       {:>9.0} /s", self.peak_per_second)?;
        writeln!(f, "offered    {:>9.0} /s for {} s", self.offered_per_second, self.overload.seconds)?;
        let part = 100.0 * self.goodput_per_second / self.peak_per_second;
        writeln!(f, "accepted   {:>9.0} /s, {part:.0} % of the peak", self.goodput_per_second)?;
        writeln!(f, "refused    {:>9}, held back by clients {}", self.refused, self.held_back)?;
        writeln!(f, "answers    p50 {half:.0} ms, p99 {most:.0} ms, max {all:.0} ms")?;
        writeln!(f, "           late {}, missing {}, odd {}", self.late, self.unanswered, self.odd)?;
        for (process, mib) in &self.memory_mib {
            writeln!(f, "memory     {mib:>9} MiB at most: {process}")?;
        }
        writeln!(f, "recovered  after {:.1} s", self.recovered_after_s)?;
        write!(f, "promises   {}", self.verdict)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Window(usize),
    /// Messages per second and connection.
    Rate(f64),
    Stop,
}

#[derive(Debug)]
struct Counts {
    accepted: AtomicU64,
    offered: AtomicU64,
    refused: AtomicU64,
    held_back: AtomicU64,
    late: AtomicU64,
    unanswered: AtomicU64,
    odd: AtomicU64,
    answers: Mutex<Histogram<u64>>,
}

impl Counts {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Overloads `system` and measures. `tell` hears what is going on.
///
/// # Errors
/// If it does not take part at all.
pub async fn overload(
    system: &mut System,
    overload: Overload,
    tell: impl Fn(String),
) -> anyhow::Result<Endured> {
    if overload.narrow {
        for n in 0..system.gateway_count() {
            let link = system.link(End::Gateway(n), End::Rabbitmq).context("the system is not linked")?;
            link.delay(Direction::Both, NARROW);
        }
    }
    let counts = Arc::new(Counts {
        accepted: AtomicU64::new(0),
        offered: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        held_back: AtomicU64::new(0),
        late: AtomicU64::new(0),
        unanswered: AtomicU64::new(0),
        odd: AtomicU64::new(0),
        answers: Mutex::new(Histogram::new_with_max(120_000_000, 3)?),
    });
    let (mode, watched) = watch::channel(Mode::Window(0));
    let mut talking = JoinSet::new();
    for n in 0..overload.connections {
        let gateways = system.ws_urls();
        let gateway = gateways[n % gateways.len()].clone();
        let (user, group) = (format!("load{n}"), format!("group_load{}", n % GROUPS));
        Client::connect(&gateway, &user).await?.pull(&group, 0, 1).await?;
        let assignment = Assignment { conversation: group, messages: 0, size: SIZE, pace: Pace::Window(1) };
        let sender = Sender::new(user, assignment, Vec::new(), Arc::new(Report::default()))?;
        let (mode, counts) = (watched.clone(), Arc::clone(&counts));
        talking.spawn(async move { talk(&gateway, sender, mode, &counts).await });
    }
    let accepted = || counts.accepted.load(Ordering::Relaxed);
    tell("measuring the peak".to_owned());
    mode.send_replace(Mode::Window(PEAK_WINDOW));
    sleep(WARM_UP).await;
    let before = accepted();
    sleep(PEAK).await;
    let peak_per_second = rate(accepted() - before, PEAK);
    #[allow(clippy::cast_precision_loss)] // some thousands
    let each = peak_per_second * overload.factor / overload.connections as f64;
    tell(format!("{peak_per_second:.0} messages per second; now {} times as many", overload.factor));
    *counts.answers.lock() = Histogram::new_with_max(120_000_000, 3)?;
    let (before, offered) = (accepted(), counts.offered.load(Ordering::Relaxed));
    mode.send_replace(Mode::Rate(each));
    let (begun, mut memory_mib) = (Instant::now(), BTreeMap::new());
    while begun.elapsed().as_secs_f64() < overload.seconds {
        sleep(Duration::from_millis(500)).await;
        note_memory(system, &mut memory_mib)?;
    }
    let lasted = begun.elapsed();
    let goodput_per_second = rate(accepted() - before, lasted);
    let offered_per_second = rate(counts.offered.load(Ordering::Relaxed) - offered, lasted);
    mode.send_replace(Mode::Stop);
    tell("waiting until it is at rest".to_owned());
    let over = Instant::now();
    recovered(&system.ws_urls()).await?;
    let recovered_after_s = over.elapsed().as_secs_f64();
    let mut senders = Vec::new();
    while let Some(sender) = talking.join_next().await {
        senders.push(sender??);
    }
    note_memory(system, &mut memory_mib)?;
    tell("judging".to_owned());
    let verdict = judge(&system.ws_urls()[..1], &senders).await?;
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let answers = counts.answers.lock();
    #[allow(clippy::cast_precision_loss)] // below 2^52
    let ms = |part| answers.value_at_quantile(part) as f64 / 1_000.0;
    Ok(Endured {
        overload,
        peak_per_second,
        offered_per_second,
        goodput_per_second,
        refused: get(&counts.refused),
        held_back: get(&counts.held_back),
        answer_ms: [ms(0.5), ms(0.99), ms(1.0)],
        late: get(&counts.late),
        unanswered: get(&counts.unanswered),
        odd: get(&counts.odd),
        memory_mib,
        recovered_after_s,
        verdict,
    })
}

#[allow(clippy::cast_precision_loss)] // below 2^52
fn rate(count: u64, during: Duration) -> f64 {
    count as f64 / during.as_secs_f64()
}

/// One connection: sends as `mode` says, sends nothing twice, and notes every answer in the sender's book.
async fn talk(
    gateway: &str,
    mut sender: Sender,
    mut mode: watch::Receiver<Mode>,
    counts: &Counts,
) -> anyhow::Result<Sender> {
    let mut socket = websocket(&format!("{gateway}?user_id={}", sender.user)).await?;
    let mut flights: HashMap<usize, Instant> = HashMap::new();
    let mut due = Instant::now();
    loop {
        let now = *mode.borrow_and_update();
        let mut wake = Instant::now() + LATE * 2;
        match now {
            Mode::Window(window) => {
                while flights.len() < window {
                    socket.feed(next(&mut sender, &mut flights, counts)).await?;
                }
                due = Instant::now();
            }
            Mode::Rate(per_second) => {
                let pause = Duration::from_secs_f64(1.0 / per_second);
                // One that is far behind does not try to make up for it.
                due = due.max(Instant::now() - pause * AT_ONCE);
                while due <= Instant::now() {
                    if flights.len() < UNANSWERED_MAX {
                        socket.feed(next(&mut sender, &mut flights, counts)).await?;
                    } else {
                        Counts::count(&counts.held_back);
                    }
                    due += pause;
                }
                // Waking for each of a hundred thousand messages a second would take from the system what it is to show.
                wake = due.max(Instant::now() + TICK);
            }
            Mode::Stop if flights.is_empty() => return Ok(sender),
            Mode::Stop => {}
        }
        socket.flush().await?;
        tokio::select! {
            frame = socket.next() => {
                note(frame, &mut sender, &mut flights, counts)?;
                while let Some(frame) = socket.next().now_or_never() {
                    note(frame, &mut sender, &mut flights, counts)?;
                }
            }
            changed = mode.changed() => changed?,
            () = sleep_until(wake) => {
                if now == Mode::Stop {
                    // Whoever waited for so long is not answered any more.
                    counts.unanswered.fetch_add(flights.len() as u64, Ordering::Relaxed);
                    return Ok(sender);
                }
            }
        }
    }
}

fn next(sender: &mut Sender, flights: &mut HashMap<usize, Instant>, counts: &Counts) -> Message {
    let n = sender.sent.len();
    sender.sent.push(Sent { acked: None, repeated: false });
    flights.insert(n, Instant::now());
    Counts::count(&counts.offered);
    Message::text(chat_frame(&Chat {
        conversation: sender.conversation.clone(),
        msg_id: sender.msg_id(n),
        content: sender.content(n),
        stored: false,
    }))
}

fn note(
    frame: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    sender: &mut Sender,
    flights: &mut HashMap<usize, Instant>,
    counts: &Counts,
) -> anyhow::Result<()> {
    let Message::Text(text) = frame.context("closed")?? else { return Ok(()) };
    // Pushes are many, and not looked at.
    if !text.starts_with(r#"{"cmd":2"#) {
        return Ok(());
    }
    let answer: Packet = serde_json::from_str(&text).with_context(|| format!("not the protocol: {text}"))?;
    let n: usize =
        answer.msg_id.as_deref().and_then(|id| id.rsplit_once('-')).context("not our msg_id")?.1.parse()?;
    if let Some(begun) = flights.remove(&n) {
        let took = begun.elapsed();
        counts.answers.lock().saturating_record(u64::try_from(took.as_micros())?);
        if took > LATE {
            Counts::count(&counts.late);
        }
        match answer.code {
            0 => Counts::count(&counts.accepted),
            429 | 503 => Counts::count(&counts.refused),
            _ => Counts::count(&counts.odd),
        }
    }
    let sent = &mut sender.sent[n];
    match answer.code {
        0 => {
            sent.repeated |= sent.acked.is_some_and(|before| Some(before) != answer.seq);
            sent.acked = answer.seq;
        }
        _ => sent.repeated = true,
    }
    Ok(())
}

/// Until a message in each group is stored promptly. All are asked at the same time: one after the other, their own round
/// trips would be taken for the system's recovery.
async fn recovered(gateways: &[String]) -> anyhow::Result<()> {
    let probes = (0..GROUPS).map(|group| async move {
        let mut probe = Client::connect(&gateways[group % gateways.len()], &format!("probe{group}")).await?;
        wait_for("a prompt commit", RECOVERY_PATIENCE, async || {
            let chat = Chat {
                // Not in the load's own groups, whose lists are judged; in the same shards.
                conversation: format!("group_probe{group}"),
                msg_id: uuid::Uuid::new_v4().to_string(),
                content: "is it over?".into(),
                stored: true,
            };
            let begun = Instant::now();
            let answer = probe.chat(&chat).await?;
            anyhow::ensure!(answer.code == 0 && begun.elapsed() < PROMPT, "not yet: {}", answer.code);
            Ok(())
        })
        .await
    });
    try_join_all(probes).await.map(drop)
}

fn note_memory(system: &mut System, most: &mut BTreeMap<String, u64>) -> anyhow::Result<()> {
    let mut now: Vec<(String, u64)> = Vec::new();
    for service in system.services() {
        if let Some(process) = service.process() {
            now.push((process.name().to_owned(), process.resident_bytes()?));
        }
    }
    if let Some(servers) = system.servers() {
        for process in [servers.mysql.process(), servers.redis.process(), servers.rabbit.process()] {
            let Some(process) = process else { continue };
            now.push((process.name().to_owned(), process.resident_bytes()?));
        }
    }
    for (name, bytes) in now {
        let most = most.entry(name).or_default();
        *most = (*most).max(bytes >> 20);
    }
    Ok(())
}
