//! Measures the peak, overloads the system, and waits for its recovery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use testbed::client::{Assignment, Chat, Client, Credentials, Pace, Report, Sender, Targets};
use testbed::judge::judge;
use testbed::stack::{Direction, End, System, wait_for};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::connection::{self, Counts, Mode};
use super::report::{Overload, OverloadReport};

/// Unanswered messages of a connection while the peak is measured.
const PEAK_WINDOW: usize = 32;
/// Before the peak is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// For how long the peak is measured.
const PEAK: Duration = Duration::from_secs(7);
/// Between two measurements of the memory.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);
/// Conversations: enough for all shards.
const GROUPS: usize = 64;
/// Bytes of a message.
const SIZE: usize = 200;
/// Until a message is stored promptly again.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// A message that is stored within this time is stored promptly.
const PROMPT: Duration = Duration::from_secs(1);
/// The delay of a narrow system's wires to RabbitMQ.
const NARROW_DELAY: Duration = Duration::from_millis(20);

/// What is overloaded.
#[derive(Debug)]
pub struct Site<'s> {
    /// Addresses of the gateways.
    pub gateways: Vec<String>,
    /// How users prove who they are.
    pub credentials: Credentials,
    /// Begins the names of users and groups.
    pub prefix: String,
    /// The processes, where they are this machine's.
    pub system: Option<&'s mut System>,
}

impl<'s> From<&'s mut System> for Site<'s> {
    fn from(system: &'s mut System) -> Self {
        let (credentials, prefix) = (Credentials::Insecure, String::new());
        Self { gateways: system.ws_urls(), credentials, prefix, system: Some(system) }
    }
}

impl Site<'_> {
    /// The groups of an overload with this number of connections, and their members. A deployment where groups do not come into
    /// being by their first use must have them before.
    #[must_use]
    pub fn groups(&self, connections: usize) -> Vec<(String, Vec<String>)> {
        let mut groups = Vec::new();
        for group in 0..GROUPS {
            let members = (group..connections).step_by(GROUPS).map(|n| self.user(n)).collect();
            groups.push((self.group(group), members));
            groups.push((self.probe_group(group), vec![self.prober(group)]));
        }
        groups.retain(|(_, members): &(String, Vec<String>)| !members.is_empty());
        groups
    }

    fn user(&self, n: usize) -> String {
        format!("{}load{n}", self.prefix)
    }

    fn group(&self, n: usize) -> String {
        format!("group_{}load{}", self.prefix, n % GROUPS)
    }

    fn prober(&self, group: usize) -> String {
        format!("{}probe{group}", self.prefix)
    }

    /// Not one of the groups of the load, which are judged; in the same shards.
    fn probe_group(&self, group: usize) -> String {
        format!("group_{}probe{group}", self.prefix)
    }

    fn gateway(&self, n: usize) -> &str {
        &self.gateways[n % self.gateways.len()]
    }

    fn narrow(&self) -> anyhow::Result<()> {
        let system = self.system.as_ref().context("a running deployment cannot be narrowed")?;
        for n in 0..system.gateway_count() {
            let link = system.link(End::Gateway(n), End::Rabbitmq).context("the system is not linked")?;
            link.delay(Direction::Both, NARROW_DELAY);
        }
        Ok(())
    }
}

/// Overloads `site` and measures. `tell` is called with the progress.
///
/// # Errors
/// If a connection cannot be opened or ends, or the system does not recover within a minute.
pub async fn overload(
    site: impl Into<Site<'_>>,
    overload: Overload,
    tell: impl Fn(String),
) -> anyhow::Result<OverloadReport> {
    let mut site = site.into();
    if overload.narrow {
        site.narrow()?;
    }
    let counts = Arc::new(Counts::new()?);
    let (mode, watched) = watch::channel(Mode::Window(0));
    let mut connections = connect(&site, overload, &watched, &counts).await?;
    tell("measuring the peak".to_owned());
    mode.send_replace(Mode::Window(PEAK_WINDOW));
    sleep(WARM_UP).await;
    let before = get(&counts.accepted);
    sleep(PEAK).await;
    let peak_per_second = rate(get(&counts.accepted) - before, PEAK);
    tell(format!("{peak_per_second:.0} messages per second; now {} times as many", overload.factor));
    counts.answers.lock().reset();
    let (before, offered) = (get(&counts.accepted), get(&counts.offered));
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    mode.send_replace(Mode::Rate(peak_per_second * overload.factor / overload.connections as f64));
    let (begin, mut memory_mib) = (Instant::now(), BTreeMap::new());
    while begin.elapsed().as_secs_f64() < overload.seconds {
        sleep(MEMORY_INTERVAL).await;
        measure_memory(&mut site, &mut memory_mib)?;
    }
    let lasted = begin.elapsed();
    let goodput_per_second = rate(get(&counts.accepted) - before, lasted);
    let offered_per_second = rate(get(&counts.offered) - offered, lasted);
    mode.send_replace(Mode::Stop);
    tell("waiting for the recovery".to_owned());
    let recovered_after_s = recovered(&site).await?.as_secs_f64();
    let mut senders = Vec::new();
    while let Some(sender) = connections.join_next().await {
        senders.push(sender??);
    }
    measure_memory(&mut site, &mut memory_mib)?;
    tell("judging".to_owned());
    let verdict = judge(&site.gateways[..1], &senders).await?;
    Ok(OverloadReport {
        overload,
        peak_per_second,
        offered_per_second,
        goodput_per_second,
        refused: get(&counts.refused),
        held_back: get(&counts.held_back),
        answer_ms: [0.5, 0.99, 1.0].map(|quantile| answer_ms(&counts, quantile)),
        late: get(&counts.late),
        unanswered: get(&counts.unanswered),
        odd: get(&counts.odd),
        memory_mib,
        recovered_after_s,
        verdict,
    })
}

/// Opens the connections, each of a member of one of the groups.
async fn connect(
    site: &Site<'_>,
    Overload { connections, texts_only, .. }: Overload,
    mode: &watch::Receiver<Mode>,
    counts: &Arc<Counts>,
) -> anyhow::Result<JoinSet<anyhow::Result<Sender>>> {
    let mut tasks = JoinSet::new();
    let mixes: Vec<Option<Arc<Targets>>> =
        (0..GROUPS).map(|group| (!texts_only && group % 2 == 1).then(Arc::default)).collect();
    for n in 0..connections {
        let (gateway, user, group) = (site.gateway(n).to_owned(), site.user(n), site.group(n));
        Client::connect_with(&site.credentials, &gateway, &user).await?.pull(&group, 0, 1).await?;
        let assignment = Assignment { conversation: group, messages: 0, size: SIZE, pace: Pace::Window(1) };
        let mut sender = Sender::new(user, assignment, Vec::new(), Arc::new(Report::default()))?;
        sender.mix.clone_from(&mixes[n % GROUPS]);
        sender.credentials = site.credentials.clone();
        let (mode, counts) = (mode.clone(), Arc::clone(counts));
        tasks.spawn(async move { connection::run(&gateway, sender, mode, &counts).await });
    }
    Ok(tasks)
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[expect(clippy::cast_precision_loss, reason = "below 2^52")]
fn rate(count: u64, during: Duration) -> f64 {
    count as f64 / during.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "below 2^52")]
fn answer_ms(counts: &Counts, quantile: f64) -> f64 {
    counts.answers.lock().value_at_quantile(quantile) as f64 / 1_000.0
}

/// Waits until a message in each group is stored promptly, and returns after how long. All groups are probed at the same
/// time: one after the other, the round trips would count as recovery.
async fn recovered(site: &Site<'_>) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let probes = (0..GROUPS).map(|group| async move {
        let (gateway, user) = (site.gateway(group), site.prober(group));
        let mut probe = Client::connect_with(&site.credentials, gateway, &user).await?;
        wait_for("a prompt commit", RECOVERY_TIMEOUT, async || {
            let chat = Chat {
                conversation: site.probe_group(group),
                msg_id: uuid::Uuid::new_v4().to_string(),
                content: "a probe".into(),
                stored: true,
            };
            let begin = Instant::now();
            let answer = probe.chat(&chat).await?;
            anyhow::ensure!(answer.code == 0 && begin.elapsed() < PROMPT, "not yet: {}", answer.code);
            Ok(())
        })
        .await
    });
    try_join_all(probes).await?;
    Ok(begin.elapsed())
}

/// Raises `highest` to the present memory of each process, in MiB.
fn measure_memory(site: &mut Site<'_>, highest: &mut BTreeMap<String, u64>) -> anyhow::Result<()> {
    let Some(system) = &mut site.system else { return Ok(()) };
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
        let highest = highest.entry(name).or_default();
        *highest = (*highest).max(bytes >> 20);
    }
    Ok(())
}
