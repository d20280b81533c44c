//! One shard, from its queue to the database and out again: consume, commit, announce, update inboxes, acknowledge.
//!
//! A *session* is the life of one channel. Any error on it (a lost connection, a cancelled consumer) ends the session,
//! and the next one begins after a pause; the broker delivers again what was not acknowledged. A database outage does
//! not end a session: the batch is kept and retried until it is committed or the worker stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use shared::amqp::event_stream::BEACON_INTERVAL;
use shared::amqp::{Broker, EventStream};
use shared::backoff::Backoff;
use shared::health::Check;
use shared::redis::inbox::Inboxes;
use shared::redis::sequence::Sequence;
use shared::shard::ShardId;
use shared::shutdown::Shutdown;
use shared::traces::Span;
use tokio::time::{Interval, MissedTickBehavior};

use crate::announce::events::Events;
use crate::announce::inbox_writer::InboxWriter;
use crate::announce::targeting::Targeting;
use crate::announce::update_queue::inbox_updates;
use crate::commit::committer::Committer;
use crate::commit::facts::Committed;
use crate::commit::mysql_ledger::MysqlLedger;
use crate::commit::pending::DeliveryTag;
use crate::commit::traces;
use crate::config::{ShardSettings, TransactionLimits};
use crate::intake::consumer::{ConsumeError, Intake, ShardConsumer};
use crate::intake::dead_letter_publisher::DeadLetterPublisher;
use crate::intake::watchdog::{Finding, LOOK_INTERVAL, Watchdog};
use crate::settle::Deliveries;

use super::drain::{DRAIN_INTERVAL, Drain, Drained};
use super::gauges::Gauges;

/// Longest delay of an acknowledgement. It costs the broker as much as a message (both are written to its log), and one
/// acknowledgement covers all deliveries before it, so they are collected. After a crash, the next owner of the shard
/// receives what was committed and not acknowledged once more.
const ACK_DELAY: Duration = Duration::from_millis(50);

/// A session that lasted this long was healthy: the next failure starts with a short pause again.
const HEALTHY_SESSION: Duration = Duration::from_secs(10);

/// What all shard tasks of a worker share.
#[derive(Debug)]
pub(crate) struct ShardContext {
    /// Connection for consuming.
    pub(crate) consuming: Arc<Broker>,
    /// Connection for publishing. A second one, because the broker does not read from a connection that it has blocked,
    /// acknowledgements included.
    pub(crate) publishing: Arc<Broker>,
    pub(crate) ledger: MysqlLedger,
    /// Where a shard is recorded whose queue is committed to its end.
    pub(crate) drain: Drain,
    /// The source of fresh sequence numbers.
    pub(crate) sequence: Sequence,
    pub(crate) inboxes: Inboxes,
    /// Finds the gateways of events.
    pub(crate) targeting: Arc<Targeting>,
    pub(crate) dead_letters: DeadLetterPublisher,
    /// Passes while the last transaction of any shard succeeded.
    pub(crate) commits: Check,
    pub(crate) transactions: Arc<TransactionLimits>,
    pub(crate) settings: ShardSettings,
}

/// Runs one shard from the moment this worker owns it until it is told to release it.
#[derive(Debug)]
pub(crate) struct ShardTask {
    shard: ShardId,
    context: Arc<ShardContext>,
    events: EventStream,
    /// Passes while the queue is consumed.
    check: Check,
    /// Sessions in a row that ended because the broker delivered nothing. Until it delivers again, or has nothing to
    /// deliver, the check fails.
    silent_sessions: u32,
}

impl ShardTask {
    /// A task for `shard`. `check` passes while its queue is consumed.
    #[must_use]
    pub(crate) fn new(shard: ShardId, context: Arc<ShardContext>, check: Check) -> Self {
        let events = EventStream::new(Arc::clone(&context.publishing), Some(shard.0));
        Self { shard, context, events, check, silent_sessions: 0 }
    }

    /// Consumes the shard until `stop`, then finishes the current batch and returns the rest to the queue.
    pub(crate) async fn run(mut self, stop: Shutdown) {
        let mut backoff = Backoff::dependency();
        loop {
            let begun = Instant::now();
            let Err(error) = self.session(&stop).await else { return };
            self.check.fail(error.to_string());
            if matches!(error, ConsumeError::Silent) {
                self.silent_sessions += 1;
                if self.silent_sessions > 1 {
                    // A new channel was not enough.
                    self.context.consuming.give_up("it delivers nothing, although messages are ready").await;
                }
            }
            if begun.elapsed() > HEALTHY_SESSION {
                backoff.reset();
            }
            if !stop.sleep(backoff.next_delay()).await {
                self.events.end().await;
                return;
            }
        }
    }

    /// One session. `Ok` after `stop`; the event stream has ended by then.
    async fn session(&mut self, stop: &Shutdown) -> Result<(), ConsumeError> {
        let settings = self.context.settings;
        let (broker, prefetch_bodies) = (&self.context.consuming, settings.prefetch_bodies);
        let Some(consumer) = ShardConsumer::open(broker, self.shard, prefetch_bodies, stop).await else {
            self.events.end().await;
            return Ok(());
        };
        let consumer = consumer?;
        if self.silent_sessions == 0 {
            self.check.pass();
        }
        let (ledger, sequence) = (self.context.ledger.clone(), self.context.sequence.clone());
        let mut session = Session {
            shard: self.shard,
            gauges: Gauges::new(self.shard),
            context: Arc::clone(&self.context),
            consumer,
            deliveries: Deliveries::new(),
            committer: Committer::new(ledger, sequence, settings.hole_timeout),
            inboxes: InboxWriter::new(self.context.inboxes.clone()),
            dead_letters: FuturesUnordered::new(),
            ack_due: None,
            events: &mut self.events,
            beacon: interval(BEACON_INTERVAL),
            watchdog: Watchdog::new(Instant::now()),
            look: interval(LOOK_INTERVAL),
            drained: Drained::default(),
            is_drained: false,
            drain_look: interval(DRAIN_INTERVAL),
            check: &self.check,
            silent_sessions: &mut self.silent_sessions,
        };
        let result = session.run(stop).await;
        if session.committer.is_uncertain() {
            // What may have been committed is delivered again and announced then, except retries: clients must pull.
            session.events.leave_gap();
        }
        if result.is_ok() {
            // Before the queue is released: gateways receive the end before anything that the next owner commits.
            session.events.end().await;
        }
        session.gauges.set(0, &Deliveries::new());
        session.consumer.close().await;
        result
    }
}

/// The life of one channel.
struct Session<'t> {
    shard: ShardId,
    gauges: Gauges,
    context: Arc<ShardContext>,
    consumer: ShardConsumer,
    deliveries: Deliveries,
    committer: Committer<MysqlLedger, Sequence>,
    inboxes: InboxWriter,
    /// Dead letters being published. Each yields the delivery that it came with, or `None` if it was not published.
    dead_letters: FuturesUnordered<BoxFuture<'static, Option<DeliveryTag>>>,
    /// When the deliveries that are settled by now must be acknowledged.
    ack_due: Option<Instant>,
    events: &'t mut EventStream,
    beacon: Interval,
    watchdog: Watchdog,
    look: Interval,
    drained: Drained,
    /// That is recorded.
    is_drained: bool,
    drain_look: Interval,
    check: &'t Check,
    silent_sessions: &'t mut u32,
}

impl Session<'_> {
    /// Batch after batch. `Ok` when asked to stop.
    async fn run(&mut self, stop: &Shutdown) -> Result<(), ConsumeError> {
        self.work(stop).await?;
        let settled = self.inboxes.finish().await;
        self.settle(settled).await?;
        self.acknowledge().await
    }

    async fn work(&mut self, stop: &Shutdown) -> Result<(), ConsumeError> {
        while let Some(mut intake) = self.next_batch(stop).await? {
            let transactions = &self.context.transactions;
            let (permit, before) = (transactions.at_once().acquire().await, intake.messages.len());
            let turn = transactions.pacer().wait(before >= transactions.messages_max().get()).await;
            self.consumer.gather_more(transactions.messages_max(), &mut intake)?;
            let messages = intake.messages.len();
            transactions.pacer().begun(turn, messages, messages - before);
            self.register(&mut intake);
            let committed = self.commit(intake, stop).await?;
            drop(permit);
            let Some(committed) = committed else { return Ok(()) };
            self.announce_and_settle(committed).await?;
            if let Err(error) = self.committer.repair(Instant::now()).await {
                tracing::warn!(
                    shard.id = %self.shard, %error,
                    "Cannot renumber messages of shard {} in Redis; those without a sequence number are tried again",
                    self.shard
                );
            }
            let window = usize::from(self.context.settings.prefetch_bodies);
            // Places that are occupied by inbox updates become free without a further commit.
            let full = self.deliveries.unacknowledged() >= window && self.inboxes.is_idle();
            self.committer.set_blocked(full);
            self.gauges.set(self.committer.held(), &self.deliveries);
        }
        Ok(())
    }

    /// Waits until there is something to commit. `None` when asked to stop.
    async fn next_batch(&mut self, stop: &Shutdown) -> Result<Option<Intake>, ConsumeError> {
        loop {
            let due = self.committer.due(Instant::now());
            let (commit_due, ack_due) = (sleep_until(due), sleep_until(self.ack_due));
            tokio::select! {
                biased;
                () = stop.stopping() => return Ok(None),
                Some(published) = self.dead_letters.next(), if !self.dead_letters.is_empty() => {
                    self.settle(published.into_iter().collect()).await?;
                }
                settled = self.inboxes.written() => self.settle(settled).await?,
                intake = self.consumer.gather(self.context.transactions.messages_max()) => {
                    let mut intake = intake?;
                    self.register(&mut intake);
                    self.watchdog.delivered(Instant::now());
                    self.drained = Drained::default();
                    self.is_consumed();
                    return Ok(Some(intake));
                }
                () = commit_due => return Ok(Some(Intake { caught_up: true, ..Intake::default() })),
                () = ack_due => self.acknowledge().await?,
                _ = self.beacon.tick() => self.events.beacon().await,
                _ = self.look.tick() => self.look_at_queue().await?,
                _ = self.drain_look.tick(), if self.context.drain.is_draining(self.shard) => {
                    self.look_whether_drained().await?;
                }
            }
        }
    }

    /// Looks whether the broker delivers what it has, after a while without a delivery.
    async fn look_at_queue(&mut self) -> Result<(), ConsumeError> {
        // With a full window nothing can be delivered.
        if self.deliveries.unacknowledged() >= usize::from(self.context.settings.prefetch_bodies) {
            self.watchdog.pause(Instant::now());
            return Ok(());
        }
        let (ready, consumers) = self.consumer.inspect().await?;
        match self.watchdog.look(ready, consumers, Instant::now()) {
            Finding::Broken => return Err(ConsumeError::Silent),
            Finding::Probe => {
                if self.events.probe_work_queue(self.shard).await {
                    self.watchdog.probed(Instant::now());
                }
            }
            Finding::Waiting | Finding::Idle => {}
        }
        Ok(())
    }

    /// Looks whether the queue, to which nobody publishes any more, is committed to its end.
    async fn look_whether_drained(&mut self) -> Result<(), ConsumeError> {
        let is_settled = self.deliveries.unacknowledged() == 0 && self.committer.held() == 0;
        let looked = if is_settled { Some(self.consumer.inspect().await?) } else { None };
        if self.drained.look(looked) && !self.is_drained {
            self.is_drained = self.context.drain.record(self.shard).await;
        }
        Ok(())
    }

    fn is_consumed(&mut self) {
        if std::mem::take(self.silent_sessions) > 0 {
            self.check.pass();
        }
    }

    /// Registers deliveries for acknowledgement, and starts to publish dead letters.
    fn register(&mut self, intake: &mut Intake) {
        for arrived in intake.deliveries.drain(..) {
            self.deliveries.opened(arrived.tag, arrived.messages, arrived.published_s);
        }
        // Now, since the commit may take as long as MySQL is unavailable.
        self.gauges.oldest(&self.deliveries);
        for rejected in intake.rejected.drain(..) {
            let (dead_letters, shard) = (self.context.dead_letters.clone(), self.shard);
            let publishing = async move {
                let published = dead_letters.publish(shard, rejected.reason, rejected.body).await;
                published.then_some(rejected.delivery)
            };
            self.dead_letters.push(publishing.boxed());
        }
    }

    /// Commits, and retries until the database accepts the batch. `None` when asked to stop before that.
    async fn commit(&mut self, intake: Intake, stop: &Shutdown) -> Result<Option<Committed>, ConsumeError> {
        let mut backoff = Backoff::dependency();
        let (mut arrived, caught_up) = (intake.messages, intake.caught_up);
        loop {
            let error = match self.committer.commit(arrived, caught_up, Instant::now()).await {
                Ok(committed) => {
                    self.context.commits.pass();
                    return Ok(Some(committed));
                }
                Err(error) => error,
            };
            self.context.commits.fail(error.to_string());
            if !stop.sleep(backoff.next_delay()).await {
                return Ok(None);
            }
            if !self.consumer.is_open() {
                // The broker has delivered the batch to another consumer by now.
                return Err(ConsumeError::Cancelled);
            }
            arrived = Vec::new();
        }
    }

    async fn announce_and_settle(&mut self, committed: Committed) -> Result<(), ConsumeError> {
        // The inbox updates of a busy conversation must not fill the prefetch window.
        let window = usize::from(self.context.settings.prefetch_bodies);
        let hurry = self.deliveries.unacknowledged() * 2 > window;
        let Committed { mut facts, advanced, mut settled } = committed;
        let members = self.context.targeting.members(&advanced);
        self.inboxes.record(inbox_updates(advanced, &mut settled), hurry);
        let spans = traces::announced(&mut facts);
        let events = Events::from(facts);
        if !events.is_empty() {
            let outgoing = self.context.targeting.outgoing(members, events.into_wire()).await;
            let serves_as_beacon = self.events.publish_to(outgoing).await;
            spans.into_iter().for_each(Span::record);
            if serves_as_beacon {
                self.beacon.reset();
            } else if self.beacon.tick().now_or_never().is_some() {
                // Under load nothing else sends one.
                self.events.beacon().await;
            }
        }
        self.settle(settled).await
    }

    async fn settle(&mut self, settled: Vec<DeliveryTag>) -> Result<(), ConsumeError> {
        for tag in settled {
            self.deliveries.settle(tag);
        }
        let now = Instant::now();
        // At least half of the window stays free during the delay.
        let window = usize::from(self.context.settings.prefetch_bodies);
        let scarce = self.deliveries.unacknowledged() * 2 >= window;
        if scarce || *self.ack_due.get_or_insert(now + ACK_DELAY) <= now {
            self.acknowledge().await?;
        }
        Ok(())
    }

    async fn acknowledge(&mut self) -> Result<(), ConsumeError> {
        self.ack_due = None;
        let acks = self.deliveries.acks();
        self.gauges.set(self.committer.held(), &self.deliveries);
        self.consumer.acknowledge(acks).await
    }
}

fn interval(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at((Instant::now() + period).into(), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Never completes without a moment.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
