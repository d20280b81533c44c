//! Commits one shard's batches, and holds messages between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use shared::conversation::Conversation;
use shared::ids::{Seq, unix_millis};
use shared::permission::Denied;

use super::aside::Aside;
use super::batch::Batch;
use super::counts::Counts;
use super::facts::{Advanced, Committed, FinalSeq, Refused, Stored};
use super::gap_buffer::GapBuffer;
use super::ledger::{Attempt, Ledger, LedgerError, Outcome};
use super::pending::{DeliveryTag, Pending};
use super::permission_cache::VersionedRoster;
use super::remembered::Remembered;
use super::renumber::{Displaced, Sequencer, renumber};
use super::traces::CommitFacts;
use super::verdict::Verdict;

/// Pause after Redis could not give a fresh sequence number.
const RENUMBER_PAUSE: Duration = Duration::from_millis(500);

/// The state of one shard between batches. Losing it loses no message: none in it is acknowledged yet.
#[derive(Debug)]
pub(crate) struct Committer<L, S> {
    ledger: L,
    sequencer: S,
    /// Part of the next batch: their transaction failed, or they have just got a fresh sequence number.
    ready: Vec<Pending>,
    gaps: GapBuffer,
    /// Their conversation is locked by another transaction.
    aside: Aside,
    displaced: Vec<Displaced>,
    /// When Redis is asked for fresh sequence numbers again, after a failure.
    renumber_after: Option<Instant>,
    remembered: Remembered,
    /// Not recorded in Redis yet.
    final_seqs: Vec<FinalSeq>,
    /// The last transaction failed: the time of held messages stands still.
    stalled: bool,
    /// No further delivery comes before a message that is held here is settled.
    blocked: bool,
    /// The last commit while blocked settled nothing.
    blocked_without_progress: bool,
}

impl<L: Ledger, S: Sequencer> Committer<L, S> {
    /// A committer without messages. Missing sequence numbers are waited for until `gap_timeout`.
    #[must_use]
    pub(crate) fn new(ledger: L, sequencer: S, gap_timeout: Duration) -> Self {
        Self {
            ledger,
            sequencer,
            ready: Vec::new(),
            gaps: GapBuffer::new(gap_timeout),
            aside: Aside::default(),
            displaced: Vec::new(),
            renumber_after: None,
            remembered: Remembered::default(),
            final_seqs: Vec::new(),
            stalled: false,
            blocked: false,
            blocked_without_progress: false,
        }
    }

    /// Sets whether the whole prefetch window is held here. The missing messages are then in the queue behind the
    /// window, so their sequence numbers are skipped at once. Otherwise each window full of late messages, whose fresh
    /// numbers are above all that are in the queue, would take the gap timeout and make the messages behind it late in
    /// turn: a worker that is behind once would stay behind.
    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Commits `arrived` together with the messages of the same conversations that were held.
    ///
    /// `caught_up`: all deliveries have been read. Otherwise gaps are skipped much later, because the missing messages may
    /// be among the unread ones.
    ///
    /// # Errors
    /// [`LedgerError`]: all messages are kept. Call again after a pause, without new messages.
    pub(crate) async fn commit(
        &mut self,
        arrived: Vec<Pending>,
        caught_up: bool,
        now: Instant,
    ) -> Result<Committed, LedgerError> {
        let mut messages = arrived;
        messages.append(&mut self.ready);
        messages.extend(self.unlocked(now).await);
        let blocked = self.blocked && !self.stalled;
        let overdue_since = if blocked { Some(now) } else { self.gaps.overdue_since(caught_up, now) };
        let overdue_since = overdue_since.filter(|_| !self.stalled);
        if let Some(since) = overdue_since {
            self.gaps.take_overdue(since, &mut messages);
        }
        self.gaps.join(&mut messages);
        if blocked {
            for pending in &mut messages {
                pending.held_since.get_or_insert(now);
            }
        }
        loop {
            self.aside.take_from(&mut messages);
            if messages.is_empty() {
                return Ok(Committed::default());
            }
            let attempt = Attempt {
                batch: Batch::new(messages),
                remembered: std::mem::take(&mut self.remembered),
                now_ms: unix_millis(),
                overdue_since,
                look_up_all: false,
                feed: self.ledger.feed(),
            };
            let (attempt, result) = self.transact(attempt).await;
            self.remembered = attempt.remembered;
            match result {
                Ok(outcome) => {
                    let committed = self.committed(attempt.batch, &outcome, overdue_since, now);
                    self.blocked_without_progress =
                        blocked && committed.settled.is_empty() && committed.advanced.is_empty();
                    return Ok(committed);
                }
                // Each of them is in the batch, so the next one is smaller.
                Err(LedgerError::Locked(conversations)) => {
                    self.aside.add(conversations, now);
                    messages = attempt.batch.into_messages();
                }
                Err(error) => {
                    metrics::counter!(shared::metrics::WORKER_COMMITS_FAILED).increment(1);
                    CommitFacts::of(&attempt.batch, now).failed(&attempt.batch);
                    self.failed(attempt.batch);
                    return Err(error);
                }
            }
        }
    }

    /// Keeps the messages of a transaction that failed, and may have been committed.
    fn failed(&mut self, batch: Batch) {
        self.stalled = true;
        self.ready = batch.into_messages();
        for pending in &mut self.ready {
            pending.attempted = true;
            pending.held_since = None;
        }
    }

    /// The messages that were set aside, of conversations that are not locked any more.
    async fn unlocked(&mut self, now: Instant) -> Vec<Pending> {
        let Some(conversations) = self.aside.due(now) else { return Vec::new() };
        // After a failure they are looked at again later.
        let locked = self.ledger.locked(&conversations).await.unwrap_or(conversations);
        self.aside.release(&locked, now)
    }

    /// Runs the transaction; once more, with everything looked up, if a message is stored already or a row was changed.
    async fn transact(&self, attempt: Attempt) -> (Attempt, Result<Outcome, LedgerError>) {
        let begun = Instant::now();
        let mut attempt = Arc::new(attempt);
        let mut result = self.ledger.transact(Arc::clone(&attempt)).await;
        if matches!(result, Err(LedgerError::Duplicate | LedgerError::Stale)) {
            attempt = Arc::new(Attempt { look_up_all: true, ..Arc::unwrap_or_clone(attempt) });
            result = self.ledger.transact(Arc::clone(&attempt)).await;
        }
        if result.is_ok() {
            metrics::histogram!(shared::metrics::WORKER_COMMIT_TIME).record(begun.elapsed());
        }
        (Arc::unwrap_or_clone(attempt), result)
    }

    /// Updates the state after a successful transaction, and collects its facts.
    fn committed(
        &mut self,
        batch: Batch,
        outcome: &Outcome,
        overdue_since: Option<Instant>,
        now: Instant,
    ) -> Committed {
        if std::mem::take(&mut self.stalled) {
            self.gaps.restart(now);
        }
        self.remembered.committed(&batch, &outcome.plan, &outcome.rosters);
        self.apply(batch, outcome, overdue_since, now)
    }

    /// Moves each message to where its verdict says.
    fn apply(
        &mut self,
        batch: Batch,
        outcome: &Outcome,
        overdue_since: Option<Instant>,
        now: Instant,
    ) -> Committed {
        let mut committed = Committed::default();
        let mut counts = Counts::default();
        let facts = CommitFacts::of(&batch, now);
        let Outcome { plan, rosters, .. } = outcome;
        let conversations: Vec<Conversation> = batch.conversations().cloned().collect();
        let groups: Vec<_> = batch.groups().iter().cloned().zip(plan.heads.iter().copied()).collect();
        let groups = groups.into_iter().zip(conversations.into_iter().zip(rosters));
        let mut judged = batch.into_messages().into_iter().zip(&plan.verdicts);
        for ((group, head), (conversation, roster)) in groups {
            // The highest known sequence number, held or stored: a fresh one must be above it.
            let mut above = head;
            let displaced_before = self.displaced.len();
            let mut advanced = Vec::new();
            for (mut pending, verdict) in judged.by_ref().take(group.len()) {
                facts.judged(&mut pending, verdict);
                above = above.max(pending.seq);
                let delivery = pending.delivery;
                match *verdict {
                    Verdict::Take | Verdict::Jump { .. } => {
                        counts.skipped += verdict.skipped();
                        advanced.push(delivery);
                        self.stored(pending, &mut committed, &mut counts);
                    }
                    Verdict::Hold => counts.held += self.hold(pending, overdue_since, now),
                    Verdict::Renumber => {
                        counts.renumbered += 1;
                        self.displaced.push(Displaced { pending, above });
                    }
                    Verdict::Known { stored } => {
                        counts.duplicates += 1;
                        // The worker that stored it may have died before it updated inboxes.
                        let unrecorded = pending.redelivered || pending.attempted;
                        if unrecorded { &mut advanced } else { &mut committed.settled }.push(delivery);
                        self.known(pending, stored, &mut committed);
                    }
                    Verdict::Unchanged => {
                        committed.settled.push(delivery);
                        committed.facts.final_seqs.push(FinalSeq::unchanged(&pending.message));
                    }
                    Verdict::Refuse(denied) => {
                        committed.settled.push(delivery);
                        refuse(pending, denied, &mut committed);
                    }
                }
            }
            for displaced in &mut self.displaced[displaced_before..] {
                displaced.above = above;
            }
            committed.advance(conversation, head, roster, advanced);
        }
        counts.record();
        committed
    }

    fn stored(&mut self, pending: Pending, committed: &mut Committed, counts: &mut Counts) {
        counts.stored += 1;
        tracing::debug!(
            conversation.id = %pending.message.conversation, msg.id = %pending.message.msg_id,
            msg.seq = %pending.seq, trace_id = pending.message.trace_id(),
            "Committed message {}", pending.message.msg_id
        );
        if pending.is_renumbered() {
            self.correct(&pending, pending.seq, committed);
        }
        committed.facts.stored.push(Stored { message: pending.message, seq: pending.seq });
    }

    fn known(&mut self, pending: Pending, stored: Seq, committed: &mut Committed) {
        if stored != pending.message.seq {
            self.correct(&pending, stored, committed);
            return;
        }
        let message = &pending.message;
        tracing::debug!(
            conversation.id = %message.conversation, msg.id = %message.msg_id, msg.seq = %stored,
            trace_id = message.trace_id(), "Message {} is stored already", message.msg_id
        );
        // The worker that stored it may have died before it announced it. A redelivered retry is not announced: its
        // content may differ from the stored one.
        let unannounced = pending.attempted || (pending.redelivered && !message.retry);
        if unannounced && !pending.is_renumbered() {
            committed.facts.stored.push(Stored { message: pending.message, seq: stored });
        } else if message.retry || message.reply_when_stored || pending.redelivered {
            committed.facts.final_seqs.push(FinalSeq::new(message, stored, false));
        }
    }

    /// The sender was told another sequence number: the final one is for the sender, and for Redis.
    fn correct(&mut self, pending: &Pending, seq: Seq, committed: &mut Committed) {
        let message = &pending.message;
        tracing::info!(
            conversation.id = %message.conversation, msg.id = %message.msg_id,
            msg.seq = %seq, told = %message.seq, trace_id = message.trace_id(),
            "Message {} has another sequence number than its sender was told; the sender gets a second reply",
            message.msg_id
        );
        let final_seq = FinalSeq::new(message, seq, true);
        committed.facts.final_seqs.push(final_seq.clone());
        self.final_seqs.push(final_seq);
    }

    /// Returns 1 if it was not held before.
    fn hold(&mut self, mut pending: Pending, overdue_since: Option<Instant>, now: Instant) -> u64 {
        let begins = u64::from(pending.held_since.is_none());
        // Held although it was overdue: not because of a gap, but (for example) because another copy of it gets a fresh
        // sequence number. It is planned again after another timeout.
        if pending.held_since.zip(overdue_since).is_some_and(|(held, overdue)| held <= overdue) {
            pending.held_since = Some(now);
        }
        self.gaps.hold(pending, now);
        begins
    }

    /// Gets fresh sequence numbers from Redis, and records final ones there. To be called after the events are published
    /// and the deliveries acknowledged, because neither should wait for it.
    ///
    /// # Errors
    /// Messages without a fresh number are kept and tried again after a pause, see [`due`](Self::due). Final numbers that
    /// were not recorded are dropped: a retry is corrected at its own commit.
    pub(crate) async fn repair(&mut self, now: Instant) -> Result<(), S::Error> {
        let paused = self.renumber_after.is_some_and(|after| now < after);
        let renumbered = if self.displaced.is_empty() || paused {
            Ok(())
        } else {
            renumber(&self.sequencer, &mut self.displaced, &mut self.ready).await
        };
        if renumbered.is_err() {
            self.renumber_after = Some(now + RENUMBER_PAUSE);
        } else if self.displaced.is_empty() {
            self.renumber_after = None;
        }
        let finals = std::mem::take(&mut self.final_seqs);
        let recorded = try_join_all(finals.iter().map(|FinalSeq { id, seq, .. }| {
            self.sequencer.remember(&id.conversation, &id.sender, &id.msg_id, *seq)
        }));
        let recorded = recorded.await;
        renumbered.and(recorded.map(drop))
    }

    /// When [`commit`](Self::commit) and [`repair`](Self::repair) are to be called even if nothing arrives.
    #[must_use]
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let blocked = self.blocked && !self.blocked_without_progress && !self.gaps.is_empty();
        if !self.ready.is_empty() || blocked {
            return Some(now);
        }
        let renumber = (!self.displaced.is_empty()).then(|| self.renumber_after.unwrap_or(now));
        [self.gaps.next_deadline(), renumber, self.aside.next_look()].into_iter().flatten().min()
    }

    /// Whether the last transaction failed: it may have been committed.
    #[must_use]
    pub(crate) fn is_uncertain(&self) -> bool {
        self.stalled
    }

    /// How many messages wait for a lower or for a fresh sequence number, or for a locked conversation.
    #[must_use]
    pub(crate) fn held(&self) -> usize {
        self.gaps.len() + self.displaced.len() + self.aside.len()
    }
}

impl Committed {
    /// Adds deliveries that are settled when inboxes show that `conversation` has messages up to `last_seq`.
    fn advance(
        &mut self,
        conversation: Conversation,
        last_seq: Seq,
        roster: &Arc<VersionedRoster>,
        deliveries: Vec<DeliveryTag>,
    ) {
        if !deliveries.is_empty() {
            let roster = Arc::clone(roster);
            self.advanced.push(Advanced { conversation, last_seq, roster, deliveries });
        }
    }
}

fn refuse(pending: Pending, denied: Denied, committed: &mut Committed) {
    let message = pending.message;
    tracing::info!(
        conversation.id = %message.conversation, msg.id = %message.msg_id,
        msg.seq = %pending.seq, reason = ?denied, trace_id = message.trace_id(),
        "Message {} is not committed because the rule refuses it; the sender is told", message.msg_id
    );
    let code = denied.code().to_string();
    metrics::counter!(shared::metrics::WORKER_REFUSED, "code" => code).increment(1);
    committed.facts.refused.push(Refused { message, denied });
}
