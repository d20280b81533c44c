//! Commits batch after batch of one shard, and keeps what must wait in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use shared::conversation::{Conversation, Kind};
use shared::ids::{Seq, unix_millis};
use shared::permission::Denied;

use super::batch::Batch;
use super::facts::{Advanced, Committed, FinalSeq, Refused, Stored};
use super::holes::Holes;
use super::ledger::{Attempt, Ledger, LedgerError, Outcome};
use super::pending::{DeliveryTag, Pending};
use super::renumber::{Displaced, Sequencer, number};
use super::rights::{Memory, Rights};
use super::spent::Spent;
use super::verdict::Verdict;

/// Pause after Redis failed to give a fresh number.
const RENUMBER_PAUSE: Duration = Duration::from_millis(500);

/// The memory of one shard. Losing it loses no message: whatever is in it is not acknowledged yet.
#[derive(Debug)]
pub struct Committer<L, S> {
    ledger: L,
    sequencer: S,
    /// Part of the next batch, whatever arrives: their transaction failed, or they have just got a fresh number.
    ready: Vec<Pending>,
    holes: Holes,
    displaced: Vec<Displaced>,
    /// Not before then is Redis asked again.
    renumber_after: Option<Instant>,
    spent: Spent,
    memory: Memory,
    /// Redis is not told of them yet.
    final_seqs: Vec<FinalSeq>,
    /// The last transaction failed: time does not count for those who wait.
    stalled: bool,
    /// Nothing is delivered until something that waits here is settled.
    blocked: bool,
    /// The last attempt to settle something while blocked settled nothing.
    in_vain: bool,
}

impl<L: Ledger, S: Sequencer> Committer<L, S> {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(ledger: L, sequencer: S, hole_timeout: Duration) -> Self {
        Self {
            ledger,
            sequencer,
            ready: Vec::new(),
            holes: Holes::new(hole_timeout),
            displaced: Vec::new(),
            renumber_after: None,
            spent: Spent::default(),
            memory: Memory::default(),
            final_seqs: Vec::new(),
            stalled: false,
            blocked: false,
            in_vain: false,
        }
    }

    /// Says whether everything that may be delivered at once has been, and waits here. The missing numbers stand in the
    /// queue behind it then, and waiting for them is in vain: they are given up at once. Otherwise a window full of late
    /// messages, whose fresh numbers are above all that stand in the queue, would cost the hole timeout each, and make
    /// everything behind it late in its turn: a worker that is once behind would stay behind.
    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Commits what arrived together with what waited for it.
    ///
    /// `caught_up`: nothing else has been delivered. Otherwise missing numbers are given up only much later, for they may
    /// stand in what was not looked at.
    ///
    /// # Errors
    /// [`LedgerError`]: everything is kept. Call again, after a while, with nothing new.
    pub async fn commit(
        &mut self,
        arrived: Vec<Pending>,
        caught_up: bool,
        now: Instant,
    ) -> Result<Committed, LedgerError> {
        let mut messages = arrived;
        messages.append(&mut self.ready);
        let blocked = self.blocked && !self.stalled;
        let patience = if blocked { Some(now) } else { self.holes.patience_ended(caught_up, now) };
        let patience_ended = patience.filter(|_| !self.stalled);
        if let Some(end) = patience_ended {
            self.holes.take_overdue(end, &mut messages);
        }
        self.holes.join(&mut messages);
        if messages.is_empty() {
            return Ok(Committed::default());
        }
        if blocked {
            for pending in &mut messages {
                pending.held_since.get_or_insert(now);
            }
        }
        let attempt = Attempt {
            batch: Batch::new(messages),
            spent: std::mem::take(&mut self.spent),
            memory: std::mem::take(&mut self.memory),
            now_ms: unix_millis(),
            patience_ended,
            look_up_all: false,
        };
        let (attempt, ended) = self.transact(attempt).await;
        (self.spent, self.memory) = (attempt.spent, attempt.memory);
        match ended {
            Ok(outcome) => {
                if std::mem::take(&mut self.stalled) {
                    self.holes.restart(now);
                }
                self.spent.apply(&attempt.batch, &outcome.plan);
                for (conversation, rights) in attempt.batch.conversations().zip(&outcome.rights) {
                    if conversation.kind() == Kind::Group || rights.version > 0 {
                        self.memory.learn(conversation, rights);
                    }
                }
                let committed = self.apply(attempt.batch, &outcome, patience_ended, now);
                self.in_vain = blocked && committed.settled.is_empty() && committed.advanced.is_empty();
                Ok(committed)
            }
            Err(error) => {
                self.stalled = true;
                self.ready = attempt.batch.into_messages();
                for pending in &mut self.ready {
                    pending.attempted = true;
                    pending.held_since = None;
                }
                Err(error)
            }
        }
    }

    /// Runs the transaction, once more with all ids looked up if one was stored already.
    async fn transact(&self, attempt: Attempt) -> (Attempt, Result<Outcome, LedgerError>) {
        let begun = Instant::now();
        let mut attempt = Arc::new(attempt);
        let mut ended = self.ledger.transact(Arc::clone(&attempt)).await;
        if matches!(ended, Err(LedgerError::Duplicate)) {
            attempt = Arc::new(Attempt { look_up_all: true, ..Arc::unwrap_or_clone(attempt) });
            ended = self.ledger.transact(Arc::clone(&attempt)).await;
        }
        if ended.is_ok() {
            metrics::histogram!(shared::metrics::WORKER_COMMIT_TIME).record(begun.elapsed());
        }
        (Arc::unwrap_or_clone(attempt), ended)
    }

    /// Puts every message where its verdict says.
    fn apply(
        &mut self,
        batch: Batch,
        outcome: &Outcome,
        patience_ended: Option<Instant>,
        now: Instant,
    ) -> Committed {
        let mut done = Committed::default();
        let mut counts = Counts::default();
        let Outcome { plan, rights } = outcome;
        let conversations: Vec<Conversation> = batch.conversations().cloned().collect();
        let groups: Vec<_> = batch.groups().iter().cloned().zip(plan.heads.iter().copied()).collect();
        let groups = groups.into_iter().zip(conversations.into_iter().zip(rights));
        let mut judged = batch.into_messages().into_iter().zip(&plan.verdicts);
        for ((group, head), (conversation, rights)) in groups {
            // The highest number in sight, held or stored: a fresh one must be above it.
            let mut above = head;
            let displaced_before = self.displaced.len();
            let mut touched = Vec::new();
            for (pending, verdict) in judged.by_ref().take(group.len()) {
                above = above.max(pending.seq);
                let delivery = pending.delivery;
                match *verdict {
                    Verdict::Take => {
                        touched.push(delivery);
                        self.stored(pending, &mut done, &mut counts);
                    }
                    Verdict::Jump { given_up } => {
                        counts.given_up += given_up;
                        touched.push(delivery);
                        self.stored(pending, &mut done, &mut counts);
                    }
                    Verdict::Hold => self.hold(pending, patience_ended, now),
                    Verdict::Renumber => {
                        counts.renumbered += 1;
                        self.displaced.push(Displaced { pending, above });
                    }
                    Verdict::Known { stored } => {
                        counts.duplicates += 1;
                        // Whoever stored it may have died before it noted it anywhere.
                        let untold = pending.redelivered || pending.attempted;
                        if untold { &mut touched } else { &mut done.settled }.push(delivery);
                        self.known(pending, stored, &mut done);
                    }
                    Verdict::Refuse(denied) => {
                        done.settled.push(delivery);
                        refused(pending, denied, &mut done);
                    }
                }
            }
            for displaced in &mut self.displaced[displaced_before..] {
                displaced.above = above;
            }
            done.advance(conversation, head, rights, touched);
        }
        counts.record();
        done
    }

    fn stored(&mut self, pending: Pending, done: &mut Committed, counts: &mut Counts) {
        counts.stored += 1;
        tracing::debug!(
            conversation.id = %pending.message.conversation, msg.id = %pending.message.msg_id,
            seq = %pending.seq, "committed"
        );
        if pending.is_renumbered() {
            self.correct(&pending, pending.seq, done);
        }
        done.facts.stored.push(Stored { message: pending.message, seq: pending.seq });
    }

    fn known(&mut self, pending: Pending, stored: Seq, done: &mut Committed) {
        if stored != pending.message.seq {
            self.correct(&pending, stored, done);
            return;
        }
        let message = &pending.message;
        // Whoever stored it may have died before it told anyone. A redelivered retry may bring another content than the
        // first one, which is the one that counts: that is not shown.
        let untold = pending.attempted || (pending.redelivered && !message.retry);
        if untold && !pending.is_renumbered() {
            done.facts.stored.push(Stored { message: pending.message, seq: stored });
        } else if message.retry || message.reply_when_stored || pending.redelivered {
            done.facts.final_seqs.push(FinalSeq::new(message, stored, false));
        }
    }

    /// The sender was told another number: tell it, and whoever asks Redis, the final one.
    fn correct(&mut self, pending: &Pending, seq: Seq, done: &mut Committed) {
        let message = &pending.message;
        tracing::info!(
            conversation.id = %message.conversation, msg.id = %message.msg_id,
            told = %message.seq, %seq, "number corrected"
        );
        let final_seq = FinalSeq::new(message, seq, true);
        done.facts.final_seqs.push(final_seq.clone());
        self.final_seqs.push(final_seq);
    }

    fn hold(&mut self, mut pending: Pending, patience_ended: Option<Instant>, now: Instant) {
        // Held although its time was over: it waits for something else than a missing number (the fresh number of
        // another copy of it, say) and is looked at again after another timeout.
        if pending.held_since.zip(patience_ended).is_some_and(|(since, end)| since <= end) {
            pending.held_since = Some(now);
        }
        self.holes.hold(pending, now);
    }

    /// Asks Redis for the fresh numbers that are needed, and tells it the final ones. To be called after the events are
    /// out and the deliveries acknowledged: nobody should wait for this.
    ///
    /// # Errors
    /// What got no number is kept and asked for again after a pause, see [`due`](Self::due). A final number that Redis
    /// was not told is forgotten here: a retry is put right at its own commit.
    pub async fn repair(&mut self, now: Instant) -> Result<(), S::Error> {
        let asked = if self.displaced.is_empty() || self.renumber_after.is_some_and(|after| now < after) {
            Ok(())
        } else {
            number(&self.sequencer, &mut self.displaced, &mut self.ready).await
        };
        if asked.is_err() {
            self.renumber_after = Some(now + RENUMBER_PAUSE);
        } else if self.displaced.is_empty() {
            self.renumber_after = None;
        }
        let finals = std::mem::take(&mut self.final_seqs);
        let told = try_join_all(finals.iter().map(|FinalSeq { id, seq, .. }| {
            self.sequencer.remember(&id.conversation, &id.sender, &id.msg_id, *seq)
        }));
        let told = told.await;
        asked.and(told.map(drop))
    }

    /// When [`commit`](Self::commit) and [`repair`](Self::repair) should be called even if nothing arrives.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() || (self.blocked && !self.in_vain && !self.holes.is_empty()) {
            return Some(now);
        }
        let renumber = (!self.displaced.is_empty()).then(|| self.renumber_after.unwrap_or(now));
        [self.holes.next_deadline(), renumber].into_iter().flatten().min()
    }

    /// Whether the last transaction failed: it may have been committed all the same.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        self.stalled
    }

    /// How many messages wait for a lower number or for a fresh one.
    #[must_use]
    pub fn held(&self) -> usize {
        self.holes.len() + self.displaced.len()
    }
}

impl Committed {
    /// Deliveries that are settled when the inboxes show that `conversation` has messages up to `last_seq`.
    fn advance(
        &mut self,
        conversation: Conversation,
        last_seq: Seq,
        rights: &Arc<Rights>,
        deliveries: Vec<DeliveryTag>,
    ) {
        if !deliveries.is_empty() {
            let rights = Arc::clone(rights);
            self.advanced.push(Advanced { conversation, last_seq, rights, deliveries });
        }
    }
}

fn refused(pending: Pending, denied: Denied, done: &mut Committed) {
    let message = pending.message;
    tracing::info!(
        conversation.id = %message.conversation, msg.id = %message.msg_id,
        seq = %pending.seq, reason = ?denied, "refused at the commit"
    );
    let code = denied.code().to_string();
    metrics::counter!(shared::metrics::WORKER_REFUSED, "code" => code).increment(1);
    done.facts.refused.push(Refused { message, denied });
}

/// For the metrics of one batch.
#[derive(Default)]
struct Counts {
    stored: u64,
    given_up: u64,
    renumbered: u64,
    duplicates: u64,
}

impl Counts {
    fn record(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52")]
        metrics::histogram!(shared::metrics::WORKER_BATCH).record(self.stored as f64);
        for (name, count) in [
            (shared::metrics::WORKER_COMMITTED, self.stored),
            (shared::metrics::WORKER_HOLES, self.given_up),
            (shared::metrics::WORKER_RENUMBERED, self.renumbered),
            (shared::metrics::WORKER_DUPLICATES, self.duplicates),
        ] {
            if count > 0 {
                metrics::counter!(name).increment(count);
            }
        }
    }
}
