//! The simulated workers: they run the worker's own code on the fake stores.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use parking_lot::Mutex;

use super::fakes::{FakeLedger, FakeSequencer, Faults, LedgerFlaws, Locked, Redis, Timelines};
use super::operations::Fault;
use super::world::{Body, Check, Mutation, World, index_of};
use crate::announce::events::Events;
use crate::announce::update_queue::{ConversationUpdate, UpdateQueue, inbox_updates};
use crate::commit::committer::Committer;
use crate::commit::facts::Committed;
use crate::commit::pending::{DeliveryTag, Pending};
use crate::settle::Deliveries;

const GAP_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Worker {
    committer: Committer<FakeLedger, FakeSequencer>,
    sequencer: FakeSequencer,
    updates: UpdateQueue,
    deliveries: Deliveries,
    faults: Faults,
    pub(super) unacked: BTreeMap<DeliveryTag, Body>,
    last_tag: DeliveryTag,
    arrivals: u64,
}

impl World {
    pub(super) fn work(&mut self, bodies: usize, fault: Option<Fault>) -> Check {
        self.worker.faults.arm(fault);
        let room = self.prefetch.saturating_sub(self.worker.unacked.len());
        let taken: Vec<Body> = (0..bodies.min(room)).map_while(|_| self.queue.pop_front()).collect();
        let caught_up = self.queue.is_empty() || self.worker.unacked.len() + taken.len() == self.prefetch;
        let arrived = self.worker.receive(taken);
        if self.mutation == Some(Mutation::AcknowledgesOnDelivery) {
            self.worker.unacked.clear();
        }
        let ended = self.round(Role::Worker, arrived, caught_up);
        self.worker.faults.arm(None);
        if self.worker.faults.is_dead() {
            self.replace_worker(false, false);
        }
        ended
    }

    pub(super) fn zombie(&mut self, fault: Option<Fault>) -> Check {
        let Some(zombie) = &self.zombie else { return Ok(()) };
        zombie.faults.arm(fault);
        let ended = self.round(Role::Zombie, Vec::new(), true);
        if self.zombie.as_ref().is_some_and(|zombie| zombie.faults.is_dead()) {
            self.zombie = None;
        }
        ended
    }

    /// Like `shards::shard_task`.
    fn round(&mut self, role: Role, arrived: Vec<Pending>, caught_up: bool) -> Check {
        let now = self.now;
        let Some(worker) = self.acting(role) else { return Ok(()) };
        let committed = at_once(worker.committer.commit(arrived, caught_up, now));
        let Ok(committed) = committed else { return Ok(()) };
        let faults = worker.faults.clone();
        // An event that a living worker cannot publish leaves a gap in its stream, and clients pull. Only the events of a
        // worker that dies here are lost.
        let published = faults.step(|| ());
        if published.is_err() && faults.is_dead() {
            return Ok(());
        }
        let Committed { facts, advanced, mut settled } = committed;
        let updates = inbox_updates(advanced, &mut settled);
        self.announce(Events::from(facts))?;
        let (mutation, hurry_above) = (self.mutation, self.prefetch / 2);
        let Some(worker) = self.acting(role) else { return Ok(()) };
        settled.into_iter().for_each(|tag| worker.deliveries.settle(tag));
        if mutation == Some(Mutation::AcknowledgesBeforeInboxes) {
            let early = updates.iter().flat_map(|update| &update.deliveries);
            early.for_each(|tag| worker.deliveries.settle(*tag));
        }
        worker.record(updates, hurry_above, now);
        let acks = worker.deliveries.acks();
        let mut acked = Vec::new();
        let sent = faults.step(|| {
            for ack in acks {
                let first = if ack.multiple { 0 } else { ack.tag };
                acked.extend(worker.unacked.extract_if(first..=ack.tag, |_, _| true).map(|(_, body)| body));
            }
        });
        self.check_stored(&acked)?;
        if sent.is_err() {
            // A channel on which an acknowledgement fails is replaced.
            self.drop_worker(role);
            return Ok(());
        }
        if let Some(worker) = self.acting(role) {
            // A later round retries.
            let _ = at_once(worker.committer.repair(now));
        }
        Ok(())
    }

    fn acting(&mut self, role: Role) -> Option<&mut Worker> {
        match role {
            Role::Worker => Some(&mut self.worker),
            Role::Zombie => self.zombie.as_mut(),
        }
    }

    fn drop_worker(&mut self, role: Role) {
        match role {
            Role::Worker => self.replace_worker(false, false),
            Role::Zombie => self.zombie = None,
        }
    }

    pub(super) fn replace_worker(&mut self, requeue_to_back: bool, keep_as_zombie: bool) {
        let fresh = Worker::new(&self.redis, &self.timelines, &self.locked, self.mutation);
        let mut old = std::mem::replace(&mut self.worker, fresh);
        let mut returned: Vec<Body> = std::mem::take(&mut old.unacked).into_values().collect();
        for body in &mut returned {
            body.redelivered = true;
            for message in &body.messages {
                self.sent[index_of(&message.msg_id)].unordered |= self.redis_failed;
            }
        }
        if requeue_to_back {
            self.queue.extend(returned);
        } else {
            returned.into_iter().rev().for_each(|body| self.queue.push_front(body));
        }
        if keep_as_zombie {
            self.zombie = Some(old);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Worker,
    Zombie,
}

impl Worker {
    pub(super) fn new(
        redis: &Arc<Mutex<Redis>>,
        timelines: &Arc<Mutex<Timelines>>,
        locked: &Locked,
        mutation: Option<Mutation>,
    ) -> Self {
        let faults = Faults::default();
        let flaws = LedgerFlaws {
            no_unique_ids: mutation == Some(Mutation::StoresTwice),
            heads_stay: mutation == Some(Mutation::ForgetsToAdvance),
            stale_versions: mutation == Some(Mutation::TrustsStalePermissions),
            assumes_heads: mutation == Some(Mutation::AssumesHeads),
            assumes_versions: mutation == Some(Mutation::AssumesVersions),
            forgets_unchanged: mutation == Some(Mutation::ForgetsUnchanged),
            feeds_early: mutation == Some(Mutation::FeedsOutsideOfTransaction),
        };
        let (timelines, locked) = (Arc::clone(timelines), Arc::clone(locked));
        let ledger = FakeLedger { timelines, locked, faults: faults.clone(), flaws };
        let sequencer = FakeSequencer { redis: Arc::clone(redis), faults: faults.clone() };
        let skips_gaps = mutation == Some(Mutation::SkipsGapsAtOnce);
        let gap_timeout = if skips_gaps { Duration::ZERO } else { GAP_TIMEOUT };
        Self {
            committer: Committer::new(ledger, sequencer.clone(), gap_timeout),
            sequencer,
            updates: UpdateQueue::new(),
            deliveries: Deliveries::new(),
            faults,
            unacked: BTreeMap::new(),
            last_tag: 0,
            arrivals: 0,
        }
    }

    /// As `announce::inbox_writer` does it.
    fn record(&mut self, updates: Vec<ConversationUpdate>, hurry_above: usize, now: Instant) {
        updates.into_iter().for_each(|update| self.updates.add(update));
        for update in self.updates.take_due(self.deliveries.unacknowledged() > hurry_above, now) {
            match self.sequencer.record(&update.conversation, update.last_seq) {
                Ok(()) => update.deliveries.into_iter().for_each(|tag| self.deliveries.settle(tag)),
                Err(_) => self.updates.add(update),
            }
        }
    }

    fn receive(&mut self, bodies: Vec<Body>) -> Vec<Pending> {
        let mut arrived = Vec::new();
        for body in bodies {
            self.last_tag += 1;
            self.deliveries.opened(self.last_tag, body.messages.len(), None);
            for message in &body.messages {
                self.arrivals += 1;
                arrived.push(Pending::new(message.clone(), self.last_tag, self.arrivals, body.redelivered));
            }
            self.unacked.insert(self.last_tag, body);
        }
        arrived
    }
}

/// Fake stores never wait.
fn at_once<F: Future>(future: F) -> F::Output {
    future.now_or_never().unwrap()
}
