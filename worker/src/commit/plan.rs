//! The rules: what becomes of each message of a batch.
//!
//! Pure. The caller has locked the conversations, so that nobody else moves them meanwhile, and carries the plan out in
//! the same transaction. For every conversation, in order of numbers:
//!
//! * The next number is taken. What is stored is therefore at any moment a settled prefix: nothing ever appears below
//!   the last number.
//! * A number further above waits ([`Verdict::Hold`]): a lower one is on its way. After the hole timeout it is given up.
//! * A number at or below the last one is too late, or the counter fell back: the message gets a fresh one
//!   ([`Verdict::Renumber`]). So does what its connection sent after it, and a message with a lower number than one that
//!   its connection sent before it (the counter fell back in between), so that a sender's messages keep their order.
//! * A message whose id is stored already ends ([`Verdict::Known`]); the number that it brought is spent.
//! * So does a message of someone who may not send (any more), and a recall of what may not be recalled
//!   ([`Verdict::Refuse`]): it is not stored. Of a recall that is known only when its turn comes, for what it recalls may
//!   stand before it in the batch.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Instant;

use ahash::AHashMap;
use shared::ids::{ConnectionId, MsgId, Seq, UserId};
use shared::permission::{Action, Denied, RecallTarget, Relation};

use super::batch::Batch;
use super::pending::Pending;
use super::spent::Spent;
use super::verdict::{Plan, Verdict};

/// What the rules are applied to.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The messages.
    pub batch: &'a Batch,
    /// The last number of each conversation, in the order of the batch's groups.
    pub heads: &'a [Seq],
    /// The final number of each message that is known to be stored, in the order of the batch.
    pub known: &'a [Option<Seq>],
    /// Why the sender of each message may not send, in the order of the batch.
    pub refusals: &'a [Option<Denied>],
    /// The recalls among the messages, by their place in the batch.
    pub recalls: &'a AHashMap<usize, Recall>,
    /// Numbers that need not be waited for.
    pub spent: &'a Spent,
    /// What has waited since then or longer waits no more; `None` while giving up would be too early.
    pub patience_ended: Option<Instant>,
}

/// A message that recalls another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recall {
    /// The number that it recalls.
    pub target: Seq,
    /// What was stored under that number before this batch.
    pub stored: Option<Recallable>,
    /// The relation of its sender to the conversation.
    pub by: Relation,
}

/// A message that someone wants to recall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recallable {
    /// Who sent it.
    pub sender_id: String,
    /// It is itself a recall.
    pub is_recall: bool,
}

/// Applies the rules.
#[must_use]
pub fn plan(situation: &Situation<'_>) -> Plan {
    let Situation { batch, heads, spent, .. } = situation;
    let mut verdicts = Vec::with_capacity(batch.messages().len());
    let mut last_numbers = Vec::with_capacity(heads.len());
    for (group, head) in batch.groups().iter().zip(*heads) {
        let messages = &batch.messages()[group.clone()];
        let spent_before = messages.first().and_then(|first| spent.of(&first.message.conversation));
        let mut walk = Walk::new(situation, group.clone(), *head, spent_before, &mut verdicts);
        for at in 0..messages.len() {
            walk.step(at);
        }
        last_numbers.push(walk.head);
    }
    Plan { verdicts, heads: last_numbers }
}

/// One conversation, message by message in order of numbers.
struct Walk<'a> {
    messages: &'a [Pending],
    known: &'a [Option<Seq>],
    refusals: &'a [Option<Denied>],
    recalls: &'a AHashMap<usize, Recall>,
    /// The last number so far.
    head: Seq,
    spent_before: Option<&'a BTreeSet<Seq>>,
    /// Spent by this plan; none of them is in `spent_before`.
    spent_now: BTreeSet<Seq>,
    /// Gaps below this number have been seen for too long.
    overdue: Seq,
    /// A message below is held.
    holding: bool,
    /// Where the first copy of each id stands.
    first_copies: AHashMap<(&'a UserId, &'a MsgId), usize>,
    /// Connections with a message that gets a fresh number, and its arrival.
    displaced: AHashMap<ConnectionId, u64>,
    /// Messages whose connection sent a higher number before them.
    inverted: Vec<bool>,
    /// Where this conversation's verdicts begin in `verdicts`.
    base: usize,
    verdicts: &'a mut Vec<Verdict>,
}

impl<'a> Walk<'a> {
    fn new(
        situation: &Situation<'a>,
        group: Range<usize>,
        head: Seq,
        spent_before: Option<&'a BTreeSet<Seq>>,
        verdicts: &'a mut Vec<Verdict>,
    ) -> Self {
        let Situation { batch, known, refusals, recalls, patience_ended, .. } = *situation;
        let messages = &batch.messages()[group.clone()];
        // Whoever waits proves that every number below it was given out before it: what is missing there has been
        // missing for as long.
        let is_overdue =
            |p: &&Pending| p.held_since.zip(patience_ended).is_some_and(|(since, end)| since <= end);
        let overdue = messages.iter().rev().find(is_overdue).map_or(Seq::ZERO, |pending| pending.seq);
        Self {
            messages,
            known: &known[group.clone()],
            refusals: &refusals[group],
            recalls,
            head,
            spent_before,
            spent_now: BTreeSet::new(),
            overdue,
            holding: false,
            first_copies: AHashMap::new(),
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
                self.spend(pending.seq);
            }
            Verdict::Known { .. } | Verdict::Refuse(_) => self.spend(pending.seq),
        }
        self.verdicts.push(verdict);
    }

    fn judge(&mut self, at: usize) -> Verdict {
        let pending = &self.messages[at];
        let copy = self.verdict_as_copy(at);
        if let Some(stored) = self.known[at] {
            return Verdict::Known { stored };
        }
        if let Some(verdict) = copy {
            return verdict;
        }
        if let Some(refusal) = self.refusals[at] {
            return Verdict::Refuse(refusal);
        }
        let inverted = self.inverted.get(at).is_some_and(|inverted| *inverted);
        if pending.seq <= self.head || inverted || self.follows_displaced(pending) {
            return Verdict::Renumber;
        }
        let missing = self.missing_below(pending.seq);
        if missing == 0 {
            return self.take(at, Verdict::Take);
        }
        // What is held below was numbered before the jump, and goes first.
        if pending.follows_jump() && !self.holding {
            return self.take(at, Verdict::Jump { given_up: 0 });
        }
        if pending.seq <= self.overdue {
            return self.take(at, Verdict::Jump { given_up: missing });
        }
        Verdict::Hold
    }

    /// It is this message's turn.
    fn take(&self, at: usize, verdict: Verdict) -> Verdict {
        let Some(recall) = self.recalls.get(&(self.base + at)) else { return verdict };
        let stored = match (&recall.stored, self.taken(recall.target)) {
            (Some(Recallable { sender_id, is_recall }), _) => Some((sender_id.as_str(), *is_recall)),
            (None, Some(Pending { message, .. })) => {
                Some((message.sender.as_str(), message.kind.recalls().is_some()))
            }
            (None, None) => None,
        };
        let by = self.messages[at].message.sender.as_str();
        let target = stored.filter(|(_, is_recall)| !is_recall).map(|(sender, _)| RecallTarget {
            is_recall: false,
            is_own: sender == by,
            // Checked by the gateway when it accepts the recall.
            expired_after_ms: None,
        });
        recall.by.check(Action::Recall(target), || 0).map_or_else(Verdict::Refuse, |()| verdict)
    }

    /// The message that this plan stores under `seq`.
    fn taken(&self, seq: Seq) -> Option<&'a Pending> {
        let first = self.messages.partition_point(|pending| pending.seq < seq);
        let same = self.messages[first..].iter().take_while(|pending| pending.seq == seq);
        let judged = same.zip(self.verdicts.iter().skip(self.base + first));
        judged.filter(|(_, verdict)| verdict.stores()).map(|(pending, _)| pending).next()
    }

    /// If an earlier message of the batch has the same id: what becomes of this one. Notes the id otherwise.
    fn verdict_as_copy(&mut self, at: usize) -> Option<Verdict> {
        if self.messages.len() == 1 {
            return None;
        }
        let message = &self.messages[at].message;
        let first = *self.first_copies.entry((&message.sender, &message.msg_id)).or_insert(at);
        (first < at).then(|| match self.verdicts[self.base + first] {
            Verdict::Take | Verdict::Jump { .. } => Verdict::Known { stored: self.messages[first].seq },
            ended @ (Verdict::Known { .. } | Verdict::Refuse(_)) => ended,
            // Its final number is not settled yet.
            Verdict::Hold | Verdict::Renumber => Verdict::Hold,
        })
    }

    fn follows_displaced(&self, pending: &Pending) -> bool {
        !self.displaced.is_empty()
            && ordered_origin(pending)
                .and_then(|origin| self.displaced.get(&origin))
                .is_some_and(|arrival| *arrival < pending.arrival)
    }

    /// How many numbers between the last one and `seq` somebody may still bring.
    fn missing_below(&self, seq: Seq) -> u64 {
        let between = self.head.next()..seq;
        let apart = seq.0 - self.head.0 - 1;
        if apart == 0 {
            return 0;
        }
        let before = self.spent_before.map_or(0, |numbers| numbers.range(between.clone()).count());
        apart - (before + self.spent_now.range(between).count()) as u64
    }

    fn spend(&mut self, seq: Seq) {
        if seq > self.head && !self.spent_before.is_some_and(|numbers| numbers.contains(&seq)) {
            self.spent_now.insert(seq);
        }
    }
}

/// The connection within whose messages this one has a place to keep. A retry has none: it was refused once and sent
/// again later.
fn ordered_origin(pending: &Pending) -> Option<ConnectionId> {
    pending.message.origin.filter(|_| !pending.message.retry)
}

/// Which messages arrived after one of the same connection that has a higher number. Empty if the messages arrived in
/// the order of their numbers, as they nearly always do.
///
/// A redelivered message may have been overtaken on its way back to the queue: its arrival says nothing.
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
