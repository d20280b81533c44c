//! Voided sequence numbers: those above a conversation's last one that no message will have any more.
//!
//! A copy of a stored message, for example, was given a sequence number that is not used. The next message would be held
//! because of it until the gap timeout, so voided numbers are remembered until the conversation has passed them. They
//! are in memory only: after a restart, or beyond the limit, the gap timeout has the same effect later.

use std::collections::BTreeSet;

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::ids::Seq;

use super::batch::Batch;
use super::verdict::Plan;

/// Most sequence numbers per shard; beyond, those of arbitrary conversations are forgotten.
const SEQS_MAX: usize = 65_536;

/// The voided sequence numbers of one shard's conversations.
#[derive(Debug, Clone, Default)]
pub struct VoidedSeqs {
    seqs: AHashMap<Conversation, BTreeSet<Seq>>,
    count: usize,
}

impl VoidedSeqs {
    /// Those of one conversation; `None` if it has none.
    #[must_use]
    pub(crate) fn of(&self, conversation: &Conversation) -> Option<&BTreeSet<Seq>> {
        self.seqs.get(conversation)
    }

    /// Adds the sequence numbers that `plan` voids, and removes those that the conversations have passed.
    pub(crate) fn apply(&mut self, batch: &Batch, plan: &Plan) {
        for (group, last) in batch.groups().iter().zip(&plan.heads) {
            let messages = &batch.messages()[group.clone()];
            let judged = messages.iter().zip(&plan.verdicts[group.clone()]);
            let fresh = judged.filter(|(pending, verdict)| verdict.voids() && pending.seq > *last);
            let fresh: BTreeSet<Seq> = fresh.map(|(pending, _)| pending.seq).collect();
            if let Some(first) = messages.first() {
                self.replace(&first.message.conversation, fresh, *last);
            }
        }
        while self.count > SEQS_MAX {
            let Some(conversation) = self.seqs.keys().next().cloned() else { break };
            self.count -= self.seqs.remove(&conversation).map_or(0, |seqs| seqs.len());
        }
    }

    fn replace(&mut self, conversation: &Conversation, mut fresh: BTreeSet<Seq>, last: Seq) {
        if let Some(before) = self.seqs.remove(conversation) {
            self.count -= before.len();
            fresh.extend(before.into_iter().filter(|seq| *seq > last));
        }
        if !fresh.is_empty() {
            self.count += fresh.len();
            self.seqs.insert(conversation.clone(), fresh);
        }
    }
}
