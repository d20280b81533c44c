//! The senders and readers of a run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use testbed::client::{
    Assignment, Client, FeedEvent, FeedReader, Pace, Progress, Reader, Reading, Report, Sender, Targets,
};
use testbed::judge::{Lists, Verdict};
use testbed::stack::{System, wait_for};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::monitor::Watched;
use crate::notified::Notified;
use crate::webhook::JudgedWebhook;

/// For the last answers: a sender ends after two minutes without success.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(150);
/// For the last messages to reach all readers.
const READERS_TIMEOUT: Duration = Duration::from_secs(30);
/// For the last events to reach the endpoint of the webhook: the lease of a gateway that was killed must end, and a failed call
/// is repeated after some seconds.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// The moments of sending repeat after this time; its last second is a burst.
const PERIOD: Duration = Duration::from_secs(10);
/// The rate during a burst, as a multiple of the usual one.
const BURST: f64 = 5.0;
/// Bytes of a message.
const SIZE: usize = 300;
/// The fewest groups; there are half as many private conversations.
const GROUPS_MIN: usize = 6;
/// Senders in a group.
const GROUP_SENDERS: usize = 2;
/// The fewest readers in a group.
const GROUP_READERS_MIN: usize = 2;
/// Readers in a group beyond which there are more groups.
const GROUP_READERS_MAX: usize = 20;
/// Readers that connect at the same time in the beginning.
const CONNECTING_AT_ONCE: usize = 64;
/// From the first connection until the first message.
const BEFORE_START: Duration = Duration::from_millis(500);

/// A reader and its progress.
#[derive(Debug)]
pub(crate) struct KnownReader {
    pub(crate) conversation: String,
    pub(crate) user: String,
    pub(crate) reading: Arc<Reading>,
}

/// All senders and readers, and the tasks in which they run.
#[derive(Debug)]
pub(crate) struct Participants {
    sending: JoinSet<(Sender, anyhow::Result<()>)>,
    reading: JoinSet<Reader>,
    /// For the monitor: one entry for each conversation.
    pub(crate) watched: Vec<Watched>,
    pub(crate) readers: Vec<KnownReader>,
    /// `None` if the system has no change feed.
    feed: Option<FeedReader>,
    /// `None` if the system has no notifications.
    notified: Option<Notified>,
    /// `None` if the system has no webhooks.
    webhook: Option<JudgedWebhook>,
    senders: Vec<Arc<Progress>>,
    stop_sending: CancellationToken,
    stop_reading: CancellationToken,
}

/// A conversation with the users in it.
struct Plan {
    conversation: String,
    senders: Vec<String>,
    readers: Vec<String>,
}

impl Participants {
    /// Connects `readers` readers at least, and lets the senders send `per_second` messages in all.
    pub(crate) async fn start(
        system: &System,
        readers: usize,
        per_second: f64,
        report: &Arc<Report>,
    ) -> anyhow::Result<Self> {
        let gateways = system.ws_urls();
        let mut participants = Self {
            sending: JoinSet::new(),
            reading: JoinSet::new(),
            watched: Vec::new(),
            readers: Vec::new(),
            feed: FeedReader::start(&system.http_urls(), system.operator_key()).await?,
            notified: None,
            webhook: JudgedWebhook::start(system).await?,
            senders: Vec::new(),
            stop_sending: CancellationToken::new(),
            stop_reading: CancellationToken::new(),
        };
        let plans = plans(readers);
        let joining = plans.iter().flat_map(|Plan { conversation, readers, .. }| {
            let users = readers.iter().enumerate();
            users.map(|(n, user)| join(&gateways[n % gateways.len()], user, conversation))
        });
        // Members before the first message receive its push.
        futures_util::stream::iter(joining).buffer_unordered(CONNECTING_AT_ONCE).try_collect::<()>().await?;
        let groups: Vec<String> = plans.iter().map(|plan| plan.conversation.clone()).collect();
        let groups: Vec<String> = groups.into_iter().filter(|name| name.starts_with("group_")).collect();
        participants.notified = Notified::start(&gateways, &system.http_urls(), &groups).await?;
        let senders = plans.iter().map(|plan| plan.senders.len()).sum();
        let start = Instant::now() + BEFORE_START;
        // Each participant prefers the next gateway.
        let mut orders = (0..gateways.len()).cycle().map(|n| {
            let mut order = gateways.clone();
            order.rotate_left(n);
            order
        });
        let mut orders = std::iter::from_fn(move || orders.next());
        let mut index = 0;
        for (number, Plan { conversation, senders: users, readers }) in plans.into_iter().enumerate() {
            // Every other conversation has edits and reactions between its texts.
            let mix = (number % 2 == 1).then(Arc::<Targets>::default);
            let mut watched = Watched { senders: Vec::new(), readers: Vec::new() };
            for (user, order) in readers.into_iter().zip(orders.by_ref()) {
                watched.readers.push(participants.read(Reader::new(user, conversation.clone(), order)));
            }
            for (user, order) in users.into_iter().zip(orders.by_ref()) {
                let stop = participants.stop_sending.clone();
                let pace =
                    Pace::Endless { moments: moments(index, senders, per_second), period: PERIOD, stop };
                index += 1;
                let conversation = conversation.clone();
                let assignment = Assignment { conversation, messages: 0, size: SIZE, pace };
                let mut sender = Sender::new(user, assignment, order, Arc::clone(report))?;
                sender.mix.clone_from(&mix);
                watched.senders.push(participants.send(sender, start));
            }
            participants.watched.push(watched);
        }
        Ok(participants)
    }

    fn read(&mut self, mut reader: Reader) -> Arc<Reading> {
        let (conversation, user) = (reader.conversation.clone(), reader.user.clone());
        let (reading, stop) = (Arc::clone(&reader.reading), self.stop_reading.clone());
        self.readers.push(KnownReader { conversation, user, reading: Arc::clone(&reading) });
        self.reading.spawn(async move {
            reader.run(stop).await;
            reader
        });
        reading
    }

    fn send(&mut self, mut sender: Sender, start: Instant) -> Arc<Progress> {
        let progress = Arc::clone(&sender.progress);
        self.senders.push(Arc::clone(&progress));
        self.sending.spawn(async move {
            let result = sender.run(start).await;
            (sender, result)
        });
        progress
    }

    /// Lets each participant connect to the gateway that it prefers.
    pub(crate) fn return_home(&self) {
        self.readers.iter().for_each(|reader| reader.reading.return_home());
        self.senders.iter().for_each(|sender| sender.return_home());
    }

    /// The groups, without the private conversations.
    pub(crate) fn groups(&self) -> Vec<String> {
        let groups: BTreeSet<_> = self.readers.iter().map(|reader| &reader.conversation).collect();
        groups.into_iter().filter(|group| group.starts_with("group_")).cloned().collect()
    }

    /// Stops sending, and waits for all answers. Returns the senders, and a line for each that lacks an answer.
    pub(crate) async fn finish_senders(&mut self) -> (Vec<Sender>, Vec<String>) {
        self.stop_sending.cancel();
        let (mut senders, mut unanswered) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + ANSWERS_TIMEOUT;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.sending.join_next()).await {
            match ended {
                Ok((sender, result)) => {
                    unanswered.extend(result.err().map(|error| format!("{error:#}")));
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
    pub(crate) async fn finish_readers(&mut self, lists: &Lists) -> anyhow::Result<Vec<Reader>> {
        // After the timeout, the judge finds those that are behind.
        let _ = wait_for("readers", READERS_TIMEOUT, async || {
            for KnownReader { conversation, user, reading } in &self.readers {
                let last = lists.get(conversation).and_then(|list| list.last()).map_or(0, |last| last.seq);
                let cursor = reading.cursor();
                anyhow::ensure!(cursor >= last, "{user} is at {cursor} of {last} in {conversation}");
            }
            Ok(())
        })
        .await;
        self.stop_reading.cancel();
        let mut readers = Vec::new();
        while let Some(reader) = self.reading.join_next().await {
            readers.push(reader?);
        }
        Ok(readers)
    }

    /// Waits until the reader of the change feed has everything, and stops it. Returns the events of each shard, and what was
    /// wrong; `None` if the system has no feed.
    pub(crate) async fn finish_feed(&mut self) -> anyhow::Result<Option<(Vec<Vec<FeedEvent>>, Vec<String>)>> {
        let Some(feed) = self.feed.take() else { return Ok(None) };
        // After the timeout, the judge finds what is missing.
        let _ = wait_for("the reader of the feed", READERS_TIMEOUT, async || feed.has_all().await).await;
        feed.finish().await.map(Some)
    }

    /// Judges what devices of users without a connection show. Returns how many notifications came, and how many of them again;
    /// `None` if the system has none.
    pub(crate) async fn finish_notified(
        &mut self,
        lists: &Lists,
        verdict: &mut Verdict,
    ) -> anyhow::Result<Option<(usize, usize)>> {
        let Some(notified) = self.notified.take() else { return Ok(None) };
        notified.finish(lists, verdict).await.map(Some)
    }

    /// The same for the endpoint of the webhook.
    pub(crate) async fn finish_webhook(
        &mut self,
    ) -> anyhow::Result<Option<(Vec<Vec<FeedEvent>>, Vec<String>)>> {
        let Some(webhook) = self.webhook.take() else { return Ok(None) };
        webhook.finish(WEBHOOK_TIMEOUT).await.map(Some)
    }
}

/// Groups and private conversations with `readers` readers at least. Each run on the same data has names of its own.
fn plans(readers: usize) -> Vec<Plan> {
    let name = &uuid::Uuid::new_v4().simple().to_string()[..6];
    let groups = (readers / GROUP_READERS_MAX).max(GROUPS_MIN);
    let privates = GROUPS_MIN / 2;
    let group_readers = readers.saturating_sub(privates).div_ceil(groups).max(GROUP_READERS_MIN);
    let group = |g| Plan {
        conversation: format!("group_{name}g{g}"),
        senders: (0..GROUP_SENDERS).map(|n| format!("{name}g{g}s{n}")).collect(),
        readers: (0..group_readers).map(|n| format!("{name}g{g}r{n}")).collect(),
    };
    let private = |p| {
        let (from, to) = (format!("{name}p{p}a"), format!("{name}p{p}b"));
        Plan { conversation: format!("private_{from}_{to}"), senders: vec![from], readers: vec![to] }
    };
    (0..groups).map(group).chain((0..privates).map(private)).collect()
}

async fn join(gateway: &str, user: &str, conversation: &str) -> anyhow::Result<()> {
    let joined = Client::connect(gateway, user).await?.pull(conversation, 0, 1).await?;
    anyhow::ensure!(joined.code == 0, "{user} cannot join: {}", joined.payload);
    Ok(())
}

/// The moments within a period at which one of `all` senders sends: evenly, and faster in its last second.
fn moments(index: usize, all: usize, per_second: f64) -> Arc<[Duration]> {
    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_share_the_rate_and_the_burst() {
        let all: usize = (0..4).map(|index| moments(index, 4, 100.0).len()).sum();
        // 9 s at 100, 1 s at 500.
        assert!((1_380..=1_420).contains(&all), "{all}");
    }

    #[test]
    fn there_are_as_many_readers_as_asked_for() {
        for readers in [1, 15, 100, 1_000] {
            let all: usize = plans(readers).iter().map(|plan| plan.readers.len()).sum();
            assert!(all >= readers, "{all} of {readers}");
        }
    }
}
