//! The rules that decide about each message of a batch.
//!
//! Pure. The caller has locked the conversations, so that no other transaction changes them, and executes the plan in the
//! same transaction. For each conversation, in order of sequence numbers:
//!
//! * The next number is taken. The stored messages are therefore a settled prefix at any moment: no message appears at or
//!   below the last number later.
//! * A higher number is held ([`Verdict::Hold`]), because a lower one is on its way. After the gap timeout, the missing
//!   numbers are skipped.
//! * A number at or below the last one is late, or the counter fell back: the message gets a fresh number
//!   ([`Verdict::Renumber`]). So do the messages that its connection sent after it, and a message with a lower number
//!   than one that its connection sent before it (the counter fell back in between). A sender's messages keep their order.
//! * A message whose id is stored already is settled ([`Verdict::Known`]); its number is voided. If the stored message is
//!   of another kind, the sender has reused the id: the message is not stored ([`Verdict::Refuse`]).
//! * A message of a user who may not send (any more), and a change that its sender may not make, is not stored
//!   ([`Verdict::Refuse`]). About a change this is decided in its turn, because the message that it changes, and other
//!   changes, may precede it in the batch. A reaction or pin that changes nothing is not stored either
//!   ([`Verdict::Unchanged`]).

use std::collections::BTreeSet;
use std::time::Instant;

use ahash::AHashMap;
use shared::ids::{ConnectionId, MsgId, Seq, UserId};
use shared::message::Reuse;
use shared::mysql::changes::{ChangeFacts, ChangeWrites};
use shared::permission::{Denied, Roster};

use super::batch::Batch;
use super::changes::{Applied, Targets, concerns};
use super::pending::Pending;
use super::verdict::{Plan, Verdict};
use super::voided_seqs::VoidedSeqs;

/// The input of the rules.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The messages to plan.
    pub batch: &'a Batch,
    /// The last sequence number of each conversation, in the order of the batch's groups.
    pub heads: &'a [Seq],
    /// Each message that is stored already, in the order of the batch.
    pub known: &'a [Option<KnownMessage>],
    /// Why the sender of each message may not send, in the order of the batch.
    pub refusals: &'a [Option<Denied>],
    /// The users of each conversation, in the order of the batch's groups.
    pub rosters: &'a [&'a Roster],
    /// What the change entries of each conversation refer to, in the order of the batch's groups; empty if there are none.
    pub facts: &'a [ChangeFacts],
    /// Sequence numbers that are not waited for.
    pub voided: &'a VoidedSeqs,
    /// Gaps below messages that have been held since then or longer are skipped; `None`: no gap is skipped.
    pub overdue_since: Option<Instant>,
}

/// The stored message with the id of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownMessage {
    /// Its final sequence number.
    pub seq: Seq,
    /// It is another message: the sender has reused the id.
    pub is_reused: bool,
    /// It changed nothing when its turn came, and is no entry of the timeline.
    pub changed_nothing: bool,
}

/// The sender has used the id for another message.
const REUSED: Verdict = Verdict::Refuse(Denied::IdReused);

/// Applies the rules.
#[must_use]
pub fn plan(situation: &Situation<'_>) -> Plan {
    let Situation { batch, heads, voided, .. } = situation;
    let mut verdicts = Vec::with_capacity(batch.messages().len());
    let mut last_seqs = Vec::with_capacity(heads.len());
    let mut changes = Vec::new();
    for (index, (group, head)) in batch.groups().iter().zip(*heads).enumerate() {
        let messages = &batch.messages()[group.clone()];
        let voided_before = messages.first().and_then(|first| voided.of(&first.message.conversation));
        let mut walk = Walk::new(situation, index, *head, voided_before, &mut verdicts);
        for at in 0..messages.len() {
            walk.step(at);
        }
        last_seqs.push(walk.head);
        if let Some(targets) = walk.targets {
            changes.resize_with(index, ChangeWrites::default);
            changes.push(targets.into_writes());
        }
    }
    Plan { verdicts, heads: last_seqs, changes }
}

/// One conversation, message by message in order of sequence numbers.
struct Walk<'a> {
    messages: &'a [Pending],
    known: &'a [Option<KnownMessage>],
    refusals: &'a [Option<Denied>],
    roster: Option<&'a Roster>,
    facts: Option<&'a ChangeFacts>,
    /// `None` before the first message that needs it: nearly always.
    targets: Option<Box<Targets<'a>>>,
    /// The last sequence number so far.
    head: Seq,
    voided_before: Option<&'a BTreeSet<Seq>>,
    /// Voided by this plan; none of them is in `voided_before`.
    voided_now: BTreeSet<Seq>,
    /// Gaps below this sequence number are overdue.
    overdue: Seq,
    /// A message below is held.
    holding: bool,
    /// The place of the first copy of each id.
    first_copies: AHashMap<(&'a UserId, &'a MsgId), usize>,
    /// Connections with a message that gets a fresh sequence number, and its arrival.
    displaced: AHashMap<ConnectionId, u64>,
    inverted: Vec<bool>,
    /// The place of this conversation's first verdict in `verdicts`.
    base: usize,
    verdicts: &'a mut Vec<Verdict>,
}

impl<'a> Walk<'a> {
    fn new(
        situation: &Situation<'a>,
        index: usize,
        head: Seq,
        voided_before: Option<&'a BTreeSet<Seq>>,
        verdicts: &'a mut Vec<Verdict>,
    ) -> Self {
        let Situation { batch, known, refusals, rosters, facts, overdue_since, .. } = *situation;
        let group = batch.groups()[index].clone();
        let messages = &batch.messages()[group.clone()];
        // All sequence numbers below a held message were given out before it: those that are missing have been missing
        // for at least as long.
        let is_overdue =
            |p: &&Pending| p.held_since.zip(overdue_since).is_some_and(|(held, overdue)| held <= overdue);
        let overdue = messages.iter().rev().find(is_overdue).map_or(Seq::ZERO, |pending| pending.seq);
        Self {
            messages,
            known: &known[group.clone()],
            refusals: &refusals[group],
            roster: rosters.get(index).copied(),
            facts: facts.get(index),
            targets: None,
            head,
            voided_before,
            voided_now: BTreeSet::new(),
            overdue,
            holding: false,
            // A single message has no copies, and allocates nothing.
            first_copies: AHashMap::with_capacity(if messages.len() == 1 { 0 } else { messages.len() }),
            displaced: AHashMap::new(),
            inverted: inverted(messages),
            base: verdicts.len(),
            verdicts,
        }
    }

    fn step(&mut self, at: usize) {
        let pending = &self.messages[at];
        let verdict = self.judge(at);
        match verdict {
            Verdict::Take | Verdict::Jump { .. } => self.head = pending.seq,
            Verdict::Hold => self.holding = true,
            Verdict::Renumber => {
                if let Some(origin) = ordered_origin(pending) {
                    let arrival = self.displaced.entry(origin).or_insert(pending.arrival);
                    *arrival = pending.arrival.min(*arrival);
                }
                self.void(pending.seq);
            }
            Verdict::Known { .. } | Verdict::Refuse(_) | Verdict::Unchanged => self.void(pending.seq),
        }
        self.verdicts.push(verdict);
    }

    fn judge(&mut self, at: usize) -> Verdict {
        let pending = &self.messages[at];
        let copy = self.verdict_as_copy(at);
        if let Some(KnownMessage { seq, is_reused, changed_nothing }) = self.known[at] {
            return match (is_reused, changed_nothing) {
                (true, _) => REUSED,
                (false, true) => Verdict::Unchanged,
                (false, false) => Verdict::Known { stored: seq },
            };
        }
        if let Some(verdict) = copy {
            return verdict;
        }
        if let Some(refusal) = self.refusals[at] {
            return Verdict::Refuse(refusal);
        }
        let inverted = self.inverted.get(at).is_some_and(|inverted| *inverted);
        if pending.seq <= self.head || inverted || self.follows_displaced(pending) {
            return self.late(at);
        }
        let missing = self.missing_below(pending.seq);
        if missing == 0 {
            return self.take(at, Verdict::Take);
        }
        // A message that is held below was numbered before the jump, and precedes it.
        if pending.follows_jump() && !self.holding {
            return self.take(at, Verdict::Jump { skipped: 0 });
        }
        if pending.seq <= self.overdue {
            return self.take(at, Verdict::Jump { skipped: missing });
        }
        Verdict::Hold
    }

    /// The verdict about a message whose turn is over: it gets another one, unless it is a change that is refused then, too.
    #[inline(never)]
    fn late(&mut self, at: usize) -> Verdict {
        let message = &self.messages[at].message;
        let Some(target) = message.kind.changes() else { return Verdict::Renumber };
        let (taken, roster) = (self.taken(target), self.roster());
        self.targets().check(message, roster, taken).map_or_else(Verdict::Refuse, |()| Verdict::Renumber)
    }

    /// The verdict about a message whose turn it is: `verdict`, unless it is a change that is not allowed or changes nothing.
    fn take(&mut self, at: usize, verdict: Verdict) -> Verdict {
        if concerns(&self.messages[at].message) { self.take_change(at, verdict) } else { verdict }
    }

    #[inline(never)]
    fn take_change(&mut self, at: usize, verdict: Verdict) -> Verdict {
        let pending = &self.messages[at];
        let taken = pending.message.kind.changes().and_then(|target| self.taken(target));
        let roster = self.roster();
        match self.targets().apply(pending, roster, taken) {
            Ok(Applied::Stored) => verdict,
            Ok(Applied::Unchanged) => Verdict::Unchanged,
            Err(denied) => Verdict::Refuse(denied),
        }
    }

    fn roster(&self) -> &'a Roster {
        self.roster.unwrap_or(&Roster::NoGroup)
    }

    fn targets(&mut self) -> &mut Targets<'a> {
        self.targets.get_or_insert_with(|| Box::new(Targets::new(self.facts)))
    }

    /// The message that this plan stores under `seq`.
    fn taken(&self, seq: Seq) -> Option<&'a Pending> {
        let first = self.messages.partition_point(|pending| pending.seq < seq);
        let same = self.messages[first..].iter().take_while(|pending| pending.seq == seq);
        let judged = same.zip(self.verdicts.iter().skip(self.base + first));
        judged.filter(|(_, verdict)| verdict.stores()).map(|(pending, _)| pending).next()
    }

    /// The verdict about a message whose id an earlier message of the batch has; records the id otherwise.
    fn verdict_as_copy(&mut self, at: usize) -> Option<Verdict> {
        if self.messages.len() == 1 {
            return None;
        }
        let message = &self.messages[at].message;
        let first = *self.first_copies.entry((&message.sender, &message.msg_id)).or_insert(at);
        if first == at {
            return None;
        }
        let is_reused =
            || message.kind.reuse_of_kind(&self.messages[first].message.kind) == Reuse::OtherMessage;
        match self.verdicts[self.base + first] {
            Verdict::Take | Verdict::Jump { .. } | Verdict::Known { .. } if is_reused() => Some(REUSED),
            Verdict::Take | Verdict::Jump { .. } => Some(Verdict::Known { stored: self.messages[first].seq }),
            // The first one is not a copy of the stored message; this one may be.
            REUSED => None,
            ended @ (Verdict::Known { .. } | Verdict::Refuse(_) | Verdict::Unchanged) => Some(ended),
            // Its final sequence number is not settled yet.
            Verdict::Hold | Verdict::Renumber => Some(Verdict::Hold),
        }
    }

    fn follows_displaced(&self, pending: &Pending) -> bool {
        !self.displaced.is_empty()
            && ordered_origin(pending)
                .and_then(|origin| self.displaced.get(&origin))
                .is_some_and(|arrival| *arrival < pending.arrival)
    }

    /// How many sequence numbers between the last one and `seq` a message may still have.
    fn missing_below(&self, seq: Seq) -> u64 {
        let between = self.head.next()..seq;
        let apart = seq.0 - self.head.0 - 1;
        if apart == 0 {
            return 0;
        }
        let before = self.voided_before.map_or(0, |seqs| seqs.range(between.clone()).count());
        apart - (before + self.voided_now.range(between).count()) as u64
    }

    fn void(&mut self, seq: Seq) {
        if seq > self.head && !self.voided_before.is_some_and(|seqs| seqs.contains(&seq)) {
            self.voided_now.insert(seq);
        }
    }
}

/// The connection among whose messages this one has its place. A retry has no place: it was refused once and sent again
/// later.
fn ordered_origin(pending: &Pending) -> Option<ConnectionId> {
    pending.message.origin.filter(|_| !pending.message.retry)
}

/// Which messages arrived after one of the same connection with a higher sequence number. Empty if the messages arrived
/// in the order of their sequence numbers, as they nearly always do.
///
/// Redelivered messages do not count: others may have overtaken them while they returned to the queue.
fn inverted(messages: &[Pending]) -> Vec<bool> {
    if messages.is_sorted_by_key(|pending| pending.arrival) {
        return Vec::new();
    }
    let mut by_arrival: Vec<usize> = (0..messages.len()).collect();
    by_arrival.sort_unstable_by_key(|at| messages[*at].arrival);
    let mut highest: AHashMap<ConnectionId, Seq> = AHashMap::new();
    let mut inverted = vec![false; messages.len()];
    for at in by_arrival {
        let pending = &messages[at];
        let Some(origin) = ordered_origin(pending) else { continue };
        let highest = highest.entry(origin).or_default();
        inverted[at] = pending.seq < *highest && !pending.redelivered && !pending.is_renumbered();
        *highest = pending.seq.max(*highest);
    }
    inverted
}

#[cfg(test)]
mod tests;
