//! Numbers above a conversation's last one that nobody will bring any more.
//!
//! A copy of a stored message, for instance, was given a number that is not needed. Its successor would wait for it
//! until the hole timeout, so such numbers are remembered until the conversation has passed them. They live in memory
//! only: after a restart, or when there are too many, the hole timeout does the same, later.

use std::collections::BTreeSet;

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::ids::Seq;

use super::batch::Batch;
use super::verdict::Plan;

/// Numbers remembered per shard.
const NUMBERS_MAX: usize = 65_536;

/// The spent numbers of one shard's conversations.
#[derive(Debug, Clone, Default)]
pub struct Spent {
    numbers: AHashMap<Conversation, BTreeSet<Seq>>,
    count: usize,
}

impl Spent {
    /// Those of one conversation; `None` if there are none.
    #[must_use]
    pub fn of(&self, conversation: &Conversation) -> Option<&BTreeSet<Seq>> {
        self.numbers.get(conversation)
    }

    /// Adds what `plan` spent and forgets what the conversations have passed.
    pub fn apply(&mut self, batch: &Batch, plan: &Plan) {
        for (group, last) in batch.groups().iter().zip(&plan.heads) {
            let messages = &batch.messages()[group.clone()];
            let judged = messages.iter().zip(&plan.verdicts[group.clone()]);
            let fresh = judged.filter(|(pending, verdict)| verdict.spends() && pending.seq > *last);
            let fresh: BTreeSet<Seq> = fresh.map(|(pending, _)| pending.seq).collect();
            if let Some(first) = messages.first() {
                self.replace(&first.message.conversation, fresh, *last);
            }
        }
        while self.count > NUMBERS_MAX {
            let Some(conversation) = self.numbers.keys().next().cloned() else { break };
            self.count -= self.numbers.remove(&conversation).map_or(0, |numbers| numbers.len());
        }
    }

    fn replace(&mut self, conversation: &Conversation, mut fresh: BTreeSet<Seq>, last: Seq) {
        if let Some(before) = self.numbers.remove(conversation) {
            self.count -= before.len();
            fresh.extend(before.into_iter().filter(|number| *number > last));
        }
        if !fresh.is_empty() {
            self.count += fresh.len();
            self.numbers.insert(conversation.clone(), fresh);
        }
    }
}
