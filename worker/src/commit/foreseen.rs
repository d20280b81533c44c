//! Batches that are planned before their transaction: new plain messages into conversations whose rows and members are
//! known from earlier commits, as nearly all are.
//!
//! Such a transaction has two statements between its begin and its end. The first one locks the rows, checks that they are
//! as the plan assumes, and advances them; so the plan is made of what is locked, as any other.

use std::sync::Arc;

use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::mysql::conversations::{ADVANCED_FROM_MAX, Head};

use super::changes::concerns;
use super::ledger::{Attempt, LedgerTx, Outcome, last_seqs, may_be_stored};
use super::permission_cache::VersionedRoster;
use super::verdict::Plan;

/// The plan of an [`Attempt`] on the rows as the last commits left them.
pub(super) struct Foreseen<'a> {
    attempt: &'a Attempt,
    /// The row of each conversation, in the order of the batch's groups.
    heads: Vec<Head>,
    plan: Plan,
    rosters: Vec<Arc<VersionedRoster>>,
}

impl Attempt {
    /// `None` if something has to be read, or if a conversation is not advanced: its row would not be checked.
    pub(super) fn foresee(&self) -> Option<Foreseen<'_>> {
        let groups = self.batch.groups();
        if self.look_up_all || groups.len() > ADVANCED_FROM_MAX {
            return None;
        }
        let (mut heads, mut rosters) = (Vec::with_capacity(groups.len()), Vec::with_capacity(groups.len()));
        for (conversation, group) in self.batch.conversations().zip(groups) {
            let messages = &self.batch.messages()[group.clone()];
            let head = self.remembered.heads.get(conversation)?;
            // A message with details may have files to look up, and mentions to write.
            if messages.iter().any(|one| may_be_stored(one, head.last_seq) || concerns(&one.message)) {
                return None;
            }
            rosters.push(self.known_roster(conversation, head, messages)?);
            heads.push(head);
        }
        let refusals = self.refusals(&rosters);
        if refusals.iter().any(Option::is_some) {
            return None;
        }
        let plan = self.plan(&last_seqs(&heads), &rosters, &vec![None; refusals.len()], &refusals, &[]);
        let all_advance = plan.heads.iter().zip(&heads).all(|(after, before)| *after > before.last_seq);
        all_advance.then_some(Foreseen { attempt: self, heads, plan, rosters })
    }
}

impl Foreseen<'_> {
    /// Locks, checks and writes.
    ///
    /// # Errors
    /// Failure of a statement; also if a row is different.
    pub(super) async fn run<T: LedgerTx>(self, tx: &mut T) -> Result<Outcome, T::Error> {
        let Self { attempt, heads, plan, rosters } = self;
        let rows = attempt.batch.conversations().zip(&heads).zip(&plan.heads);
        let rows: Vec<(&Conversation, Head, Seq)> =
            rows.map(|((id, before), after)| (id, *before, *after)).collect();
        tx.advance_from(&rows).await?;
        tx.insert(&plan.rows(&attempt.batch)).await?;
        Ok(attempt.outcome(plan, rosters, &last_seqs(&heads)))
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::{UserId, unix_millis};
    use shared::message::fixture::{numbered, with_kind};
    use shared::message::{Details, Mentions, MessageKind, Numbered};
    use shared::permission::{GroupRoster, MemberStatus, Roster};

    use super::*;
    use crate::commit::batch::Batch;
    use crate::commit::pending::Pending;
    use crate::commit::remembered::Remembered;
    use crate::commit::verdict::Verdict;

    /// A message between alice and bob.
    fn in_chat(seq: u64, sender: &str) -> Numbered {
        let [alice, bob] = ["alice", "bob"].map(|id| UserId::parse(id).unwrap());
        numbered(Conversation::between(&alice, &bob).key(), seq, sender, &format!("m{seq}"))
    }

    fn pending(message: Numbered) -> Pending {
        Pending::new(message, 1, 1, false)
    }

    /// `group_1` has alice, and the last commit left it and a private chat at sequence number 4.
    fn attempt(messages: Vec<Pending>) -> Attempt {
        let mut remembered = Remembered::default();
        let Remembered { heads, permissions, .. } = &mut remembered;
        let group = Conversation::from_key("group_1").unwrap();
        heads.insert(&group, Head { last_seq: Seq(4), access_version: 3 });
        heads.insert(&in_chat(1, "alice").conversation, Head { last_seq: Seq(4), access_version: 0 });
        let alice = (numbered("group_1", 1, "alice", "m").sender.clone(), Some(MemberStatus::NEW));
        let roster = Roster::Group(GroupRoster { members: [alice].into(), ..GroupRoster::default() });
        permissions.insert(&group, &Arc::new(VersionedRoster { version: 3, roster }));
        Attempt {
            batch: Batch::new(messages),
            remembered,
            now_ms: unix_millis(),
            overdue_since: None,
            look_up_all: false,
            feed: None,
        }
    }

    #[test]
    fn new_messages_into_known_conversations_are_planned_before_the_transaction() {
        let five = || pending(numbered("group_1", 5, "alice", "m5"));
        let attempt =
            attempt(vec![five(), pending(numbered("group_1", 7, "alice", "m7")), pending(in_chat(5, "bob"))]);
        let foreseen = attempt.foresee().unwrap();
        assert_eq!(foreseen.plan.heads, [Seq(5), Seq(5)]);
        assert_eq!(foreseen.plan.verdicts, [Verdict::Take, Verdict::Hold, Verdict::Take]);
        assert_eq!(foreseen.heads.iter().map(|head| head.access_version).collect::<Vec<_>>(), [3, 0]);
    }

    #[test]
    fn what_needs_a_query_is_not_planned_before_the_transaction() {
        let message = |seq| numbered("group_1", seq, "alice", "m");
        let retry = Numbered { retry: true, ..message(5) };
        let recall = with_kind(message(5), MessageKind::Recall(Seq(1)));
        let mut mention = message(5);
        let mentions = Some(Mentions::Everyone);
        mention.message.details = Some(Box::new(Details { mentions, ..Details::default() }));
        for (what, pending) in [
            ("at the last number", pending(message(4))),
            ("held, so that the row would not be checked", pending(message(6))),
            ("a retry", pending(retry)),
            ("delivered again", Pending { redelivered: true, ..pending(message(5)) }),
            ("tried before", Pending { attempted: true, ..pending(message(5)) }),
            ("a change", pending(recall)),
            ("one that mentions a user", pending(mention)),
            ("of a user who is no member", pending(numbered("group_1", 5, "bob", "m"))),
            ("into another conversation", pending(numbered("group_2", 5, "alice", "m"))),
        ] {
            let also = pending_in_chat();
            assert!(attempt(vec![also, pending]).foresee().is_none(), "{what}");
        }
        let again = Attempt { look_up_all: true, ..attempt(vec![pending_in_chat()]) };
        assert!(again.foresee().is_none(), "after a row was different");
        let mut many = attempt((0..=ADVANCED_FROM_MAX).map(|n| pending(in_group(n))).collect());
        for n in 0..=ADVANCED_FROM_MAX {
            let head = Head { last_seq: Seq(4), access_version: 3 };
            many.remembered.heads.insert(&in_group(n).conversation, head);
            let roster = many.remembered.permissions.get(&in_group(1).conversation, 3).cloned().unwrap();
            many.remembered.permissions.insert(&in_group(n).conversation, &roster);
        }
        assert!(many.foresee().is_none(), "more conversations than one statement has");
        let messages = many.batch.into_messages().into_iter().skip(1);
        many.batch = Batch::new(messages.collect());
        assert!(many.foresee().is_some());
    }

    fn pending_in_chat() -> Pending {
        pending(in_chat(5, "alice"))
    }

    fn in_group(n: usize) -> Numbered {
        numbered(&format!("group_{n}"), 5, "alice", "m")
    }
}
