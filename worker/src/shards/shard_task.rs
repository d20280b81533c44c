//! One shard, from its queue to the database and out again: gather, commit, announce, note in inboxes, acknowledge.
//!
//! A *session* is the life of one channel. Whatever breaks it (the connection, a cancelled consumer) ends it, and a new
//! one begins after a while; the broker delivers again what was not acknowledged. A database that is away does not end a
//! session: the batch is kept and tried again for ever.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use shared::amqp::event_stream::BEACON_INTERVAL;
use shared::amqp::{Broker, EventStream};
use shared::backoff::Backoff;
use shared::concurrency_limit::ConcurrencyLimit;
use shared::health::Check;
use shared::redis::inbox::Inboxes;
use shared::redis::sequence::Sequence;
use shared::shard::ShardId;
use shared::shutdown::Shutdown;
use tokio::time::{Interval, MissedTickBehavior};

use crate::announce::events::Events;
use crate::announce::inboxes::InboxWriter;
use crate::announce::touches::inbox_updates;
use crate::commit::committer::Committer;
use crate::commit::facts::Committed;
use crate::commit::ledger::MysqlLedger;
use crate::commit::pending::DeliveryTag;
use crate::intake::consumer::{ConsumeError, Gathered, ShardConsumer};
use crate::intake::dead_letters::DeadLetters;
use crate::settle::Deliveries;

/// An acknowledgement costs the broker as much as a message (it is written to its log too), and one says all before it:
/// they wait so long for others. A worker that dies meanwhile leaves bodies to its successor that are stored already.
const ACK_PAUSE: Duration = Duration::from_millis(50);

/// What all shards of a worker share.
#[derive(Debug)]
pub struct Parts {
    /// The connection for consuming.
    pub consuming: Arc<Broker>,
    /// The connection for publishing: a blocked one takes no acknowledgements either.
    pub publishing: Arc<Broker>,
    /// Where messages are stored.
    pub ledger: MysqlLedger,
    /// Where fresh numbers come from.
    pub sequence: Sequence,
    /// Where conversations are noted for users who come back.
    pub inboxes: Inboxes,
    /// Where the rest goes.
    pub dead_letters: DeadLetters,
    /// Passes while the last transaction of any shard succeeded.
    pub commits: Check,
    /// Shards take turns with the database: whoever waits gathers meanwhile.
    pub turns: ConcurrencyLimit,
    /// How to go about it.
    pub settings: ShardSettings,
}

/// See [`crate::config::Commit`].
#[derive(Debug, Clone, Copy)]
pub struct ShardSettings {
    /// Bodies that may be unacknowledged at once.
    pub prefetch_bodies: u16,
    /// A batch takes no further body when it has so many messages.
    pub batch_messages_max: NonZeroUsize,
    /// How long a missing number is waited for.
    pub hole_timeout: Duration,
}

/// Runs one shard until it is told to give it up.
#[derive(Debug)]
pub struct ShardTask {
    shard: ShardId,
    parts: Arc<Parts>,
    events: EventStream,
    /// Passes while the queue is consumed; gone with the task.
    check: Check,
}

impl ShardTask {
    /// A task for `shard`, which this worker owns from now on. `check` says whether it is consumed.
    #[must_use]
    pub fn new(shard: ShardId, parts: Arc<Parts>, check: Check) -> Self {
        let events = EventStream::new(Arc::clone(&parts.publishing), Some(u32::from(shard.0)));
        Self { shard, parts, events, check }
    }

    /// Consumes the shard until `stop`, then finishes the batch at hand and returns the rest to the queue.
    pub async fn run(mut self, stop: Shutdown) {
        let mut backoff = Backoff::dependency();
        loop {
            let begun = Instant::now();
            let Err(error) = self.session(&stop).await else { return };
            self.check.fail(error.to_string());
            if begun.elapsed() > Duration::from_secs(10) {
                backoff.reset();
            }
            if !stop.sleep(backoff.next_delay()).await {
                self.events.end().await;
                return;
            }
        }
    }

    /// One session. `Ok` when asked to stop; the event stream has ended then, unless something is left unannounced.
    async fn session(&mut self, stop: &Shutdown) -> Result<(), ConsumeError> {
        let settings = self.parts.settings;
        let opening = ShardConsumer::open(&self.parts.consuming, self.shard, settings.prefetch_bodies);
        let Some(consumer) = stop.run_until_stopped(opening).await else {
            self.events.end().await;
            return Ok(());
        };
        let consumer = consumer?;
        self.check.pass();
        let mut beacon = tokio::time::interval(BEACON_INTERVAL);
        beacon.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = Session {
            shard: self.shard,
            parts: Arc::clone(&self.parts),
            consumer,
            deliveries: Deliveries::new(),
            committer: Committer::new(
                self.parts.ledger.clone(),
                self.parts.sequence.clone(),
                settings.hole_timeout,
            ),
            inboxes: InboxWriter::new(self.parts.inboxes.clone()),
            burials: FuturesUnordered::new(),
            ack_due: None,
            events: &mut self.events,
            beacon,
        };
        let ended = session.run(stop).await;
        if session.committer.is_uncertain() {
            // What may have been committed is delivered again, and announced then, apart from retries.
            session.events.leave_gap();
        }
        if ended.is_ok() {
            // Before the queue is released to the next owner.
            session.events.end().await;
        }
        session.report_held(0);
        session.consumer.close().await;
        ended
    }
}

/// The life of one channel.
struct Session<'t> {
    shard: ShardId,
    parts: Arc<Parts>,
    consumer: ShardConsumer,
    deliveries: Deliveries,
    committer: Committer<MysqlLedger, Sequence>,
    inboxes: InboxWriter,
    /// Dead letters on their way; each yields the delivery that brought it, or `None` if it was not kept.
    burials: FuturesUnordered<BoxFuture<'static, Option<DeliveryTag>>>,
    /// Something is settled, and acknowledged at this moment at the latest.
    ack_due: Option<Instant>,
    events: &'t mut EventStream,
    beacon: Interval,
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
        while let Some(mut gathered) = self.next_batch(stop).await? {
            let turn = self.parts.turns.acquire().await;
            self.consumer.gather_more(self.parts.settings.batch_messages_max, &mut gathered)?;
            self.register(&mut gathered);
            let committed = self.commit(gathered, stop).await?;
            drop(turn);
            let Some(committed) = committed else { return Ok(()) };
            self.announce_and_settle(committed).await?;
            if let Err(error) = self.committer.repair(Instant::now()).await {
                tracing::warn!(shard = %self.shard, %error, "numbers not put right yet");
            }
            let window = usize::from(self.parts.settings.prefetch_bodies);
            // Places that wait for an inbox will be free by themselves.
            let full = self.deliveries.unacknowledged() >= window && self.inboxes.is_idle();
            self.committer.set_blocked(full);
            self.report_held(self.committer.held());
        }
        Ok(())
    }

    fn report_held(&self, held: usize) {
        #[expect(clippy::cast_precision_loss, reason = "bounded by the prefetch window")]
        metrics::gauge!(shared::metrics::WORKER_HELD, "shard" => self.shard.to_string()).set(held as f64);
    }

    /// Waits until there is something to do. `None` when asked to stop.
    async fn next_batch(&mut self, stop: &Shutdown) -> Result<Option<Gathered>, ConsumeError> {
        loop {
            let due = self.committer.due(Instant::now());
            let (waiting, ack_due) = (sleep_until(due), sleep_until(self.ack_due));
            tokio::select! {
                biased;
                () = stop.stopping() => return Ok(None),
                Some(buried) = self.burials.next(), if !self.burials.is_empty() => {
                    self.settle(buried.into_iter().collect()).await?;
                }
                settled = self.inboxes.written() => self.settle(settled).await?,
                gathered = self.consumer.gather(self.parts.settings.batch_messages_max) => {
                    let mut gathered = gathered?;
                    self.register(&mut gathered);
                    return Ok(Some(gathered));
                }
                () = waiting => return Ok(Some(Gathered { caught_up: true, ..Gathered::default() })),
                () = ack_due => self.acknowledge().await?,
                _ = self.beacon.tick() => self.events.beacon().await,
            }
        }
    }

    /// Notes what is to be acknowledged, and sends off what cannot be stored.
    fn register(&mut self, gathered: &mut Gathered) {
        for (tag, messages) in gathered.deliveries.drain(..) {
            self.deliveries.opened(tag, messages);
        }
        for refused in gathered.refused.drain(..) {
            let (dead_letters, shard) = (self.parts.dead_letters.clone(), self.shard);
            let burial = async move {
                let kept = dead_letters.bury(shard, refused.reason, refused.body).await;
                kept.then_some(refused.delivery)
            };
            self.burials.push(burial.boxed());
        }
    }

    /// Commits, trying again until the database takes it. `None` when asked to stop first.
    async fn commit(
        &mut self,
        gathered: Gathered,
        stop: &Shutdown,
    ) -> Result<Option<Committed>, ConsumeError> {
        let mut backoff = Backoff::dependency();
        let (mut arrived, caught_up) = (gathered.messages, gathered.caught_up);
        loop {
            let error = match self.committer.commit(arrived, caught_up, Instant::now()).await {
                Ok(committed) => {
                    self.parts.commits.pass();
                    return Ok(Some(committed));
                }
                Err(error) => error,
            };
            self.parts.commits.fail(error.to_string());
            if !stop.sleep(backoff.next_delay()).await {
                return Ok(None);
            }
            if !self.consumer.is_open() {
                // The broker has given the batch to someone else by now.
                return Err(ConsumeError::Cancelled);
            }
            arrived = Vec::new();
        }
    }

    async fn announce_and_settle(&mut self, committed: Committed) -> Result<(), ConsumeError> {
        // A busy conversation must not keep the broker from delivering others.
        let hurry = self.deliveries.unacknowledged() * 2 > usize::from(self.parts.settings.prefetch_bodies);
        let Committed { facts, advanced, mut settled } = committed;
        self.inboxes.note(inbox_updates(advanced, &mut settled), hurry);
        let events = Events::from(facts);
        if !events.is_empty() {
            self.events.publish(events.into_wire()).await;
            self.beacon.reset();
        }
        self.settle(settled).await
    }

    async fn settle(&mut self, settled: Vec<DeliveryTag>) -> Result<(), ConsumeError> {
        for tag in settled {
            self.deliveries.settle(tag);
        }
        let now = Instant::now();
        // Half of the window must be enough until then.
        let scarce = self.deliveries.unacknowledged() * 2 >= usize::from(self.parts.settings.prefetch_bodies);
        if scarce || *self.ack_due.get_or_insert(now + ACK_PAUSE) <= now {
            self.acknowledge().await?;
        }
        Ok(())
    }

    async fn acknowledge(&mut self) -> Result<(), ConsumeError> {
        self.ack_due = None;
        self.consumer.acknowledge(self.deliveries.acks()).await
    }
}

/// For ever without a moment.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
