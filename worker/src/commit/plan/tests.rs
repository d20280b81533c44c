use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use shared::conversation::Conversation;
use shared::message::fixture::{self, numbered, text, with_kind};
use shared::message::{Body, MessageKind, Numbered, Stored};
use shared::permission::{GroupRoster, MemberStatus, Role};

use super::*;

/// A message in `group_1`. Its id is the sender's letter and a number.
fn pending(seq: u64, id: &str, arrival: u64) -> Pending {
    let message = Numbered {
        // One connection per sender.
        origin: Some(ConnectionId { gateway: 1, connection: id.as_bytes()[0].into() }),
        ..numbered("group_1", seq, &id[..1], id)
    };
    Pending::new(message, 1, arrival, false)
}

fn messages(of: &[(u64, &str)]) -> Vec<Pending> {
    (1..).zip(of).map(|(arrival, (seq, id))| pending(*seq, id, arrival)).collect()
}

fn jump(mut pending: Pending) -> Pending {
    pending.message.jump = true;
    pending
}

/// The input of the rules, for one conversation.
#[derive(Debug)]
struct Case {
    batch: Batch,
    head: u64,
    known: Vec<Option<KnownMessage>>,
    refusals: Vec<Option<Denied>>,
    rosters: Vec<Roster>,
    facts: Vec<ChangeFacts>,
    voided: VoidedSeqs,
    overdue_since: Option<Instant>,
}

impl Case {
    fn new(head: u64, messages: Vec<Pending>) -> Self {
        let (known, refusals) = (vec![None; messages.len()], vec![None; messages.len()]);
        let (batch, voided) = (Batch::new(messages), VoidedSeqs::default());
        Self {
            batch,
            head,
            known,
            refusals,
            rosters: Vec::new(),
            facts: Vec::new(),
            voided,
            overdue_since: None,
        }
    }

    fn refused(mut self, at: usize) -> Self {
        self.refusals[at] = Some(Denied::NotMember);
        self
    }

    /// The message at `at` recalls `target`, which is stored with `stored` as its sender if that is given.
    fn recall(self, at: usize, target: u64, stored: Option<(&str, bool)>, of_anyone: bool) -> Self {
        let role = if of_anyone { Role::Admin } else { Role::Member };
        let mut facts = ChangeFacts::default();
        if let Some((sender, is_recall)) = stored {
            let kind = if is_recall { MessageKind::Recall(Seq(1)) } else { fixture::text("x") };
            let message = with_kind(numbered("group_1", target, sender, "target"), kind).message;
            facts.targets.insert(Seq(target), Stored::new(message, Seq(target)));
        }
        self.change(at, MessageKind::Recall(Seq(target)), role, facts)
    }

    /// The message at `at` is a change by a member with this role; `facts` are stored.
    fn change(mut self, at: usize, kind: MessageKind, role: Role, facts: ChangeFacts) -> Self {
        let mut messages = self.batch.into_messages();
        messages[at].message.message.kind = kind;
        let status = Some(MemberStatus { role, muted_until: 0 });
        let members = messages.iter().map(|pending| (pending.message.sender.clone(), status)).collect();
        let roster = Roster::Group(GroupRoster { members, ..GroupRoster::default() });
        self.rosters = vec![roster];
        self.batch = Batch::new(messages);
        self.facts = vec![facts];
        self
    }

    fn known(mut self, at: usize, stored: u64) -> Self {
        self.known[at] = Some(KnownMessage { seq: Seq(stored), is_reused: false, changed_nothing: false });
        self
    }

    /// The id of the message at `at` is stored with another kind.
    fn reused(mut self, at: usize, stored: u64) -> Self {
        self.known[at] = Some(KnownMessage { seq: Seq(stored), is_reused: true, changed_nothing: false });
        self
    }

    fn plan(&self) -> Plan {
        plan(&Situation {
            batch: &self.batch,
            heads: &[Seq(self.head)],
            known: &self.known,
            refusals: &self.refusals,
            rosters: &self.rosters.iter().collect::<Vec<_>>(),
            facts: &self.facts,
            voided: &self.voided,
            overdue_since: self.overdue_since,
        })
    }

    /// What the change entries change.
    fn changes(&self) -> ChangeWrites {
        self.plan().changes.into_iter().next().unwrap_or_default()
    }

    /// Verdicts in order of sequence numbers, and the last sequence number afterwards.
    fn outcome(&self) -> (Vec<Verdict>, u64) {
        let plan = self.plan();
        (plan.verdicts, plan.heads[0].0)
    }
}

use Verdict::{Hold, Jump, Known, Refuse, Renumber, Take};

const NO_MEMBER: Verdict = Refuse(Denied::NotMember);

#[test]
fn consecutive_seqs_are_taken_in_any_order_of_arrival() {
    let case = Case::new(10, messages(&[(12, "a1"), (11, "b1"), (13, "a2")]));
    assert_eq!(case.outcome(), (vec![Take, Take, Take], 13));
}

#[test]
fn messages_above_a_gap_are_held() {
    let case = Case::new(10, messages(&[(11, "a1"), (13, "a2"), (14, "b1")]));
    assert_eq!(case.outcome(), (vec![Take, Hold, Hold], 11));
}

#[test]
fn all_gaps_below_an_overdue_message_are_skipped_together() {
    let now = Instant::now();
    let mut waiting = messages(&[(12, "a1"), (15, "a2"), (17, "b1")]);
    waiting[1].held_since = Some(now);
    let mut case = Case::new(10, waiting);
    case.overdue_since = Some(now);
    assert_eq!(case.outcome(), (vec![Jump { skipped: 1 }, Jump { skipped: 2 }, Hold], 15));
    case.overdue_since = now.checked_sub(Duration::from_millis(1));
    assert_eq!(case.outcome(), (vec![Hold, Hold, Hold], 10));
}

#[test]
fn a_marked_jump_is_not_held_unless_a_lower_message_is() {
    let after_loss = || jump(pending(1011, "b1", 2));
    let case = Case::new(10, vec![after_loss(), pending(1012, "b2", 3)]);
    assert_eq!(case.outcome(), (vec![Jump { skipped: 0 }, Take], 1012));
    let case = Case::new(10, vec![pending(11, "a1", 1), after_loss()]);
    assert_eq!(case.outcome(), (vec![Take, Jump { skipped: 0 }], 1011));
    let case = Case::new(10, vec![pending(12, "a1", 1), after_loss()]);
    assert_eq!(case.outcome(), (vec![Hold, Hold], 10));
}

#[test]
fn a_fresh_seq_is_no_jump() {
    let mut renumbered = jump(pending(11, "a1", 1));
    renumbered.renumber(Seq(20));
    assert_eq!(Case::new(15, vec![renumbered]).outcome(), (vec![Hold], 15));
}

#[test]
fn a_late_message_is_renumbered() {
    let case = Case::new(10, messages(&[(10, "a1"), (11, "b1")]));
    assert_eq!(case.outcome(), (vec![Renumber, Take], 11));
}

#[test]
fn of_two_messages_with_the_same_seq_the_first_keeps_it() {
    let case = Case::new(10, vec![pending(11, "b1", 2), pending(11, "a1", 1)]);
    assert_eq!(case.batch.messages()[0].message.msg_id.as_str(), "a1");
    assert_eq!(case.outcome(), (vec![Take, Renumber], 11));
}

#[test]
fn messages_sent_after_a_renumbered_one_are_renumbered() {
    // The counter fell back to 9 and passed the last sequence number again: a2 would be taken before a1.
    let case = Case::new(10, messages(&[(10, "a1"), (11, "b1"), (12, "a2"), (13, "b2")]));
    // 12 is voided, so b2 is not held.
    assert_eq!(case.outcome(), (vec![Renumber, Take, Renumber, Take], 13));
    // A message that arrived before it keeps its sequence number. So do all if the renumbered one was sent late.
    let case = Case::new(10, vec![pending(11, "a1", 1), pending(9, "a2", 2)]);
    assert_eq!(case.outcome(), (vec![Renumber, Take], 11));
    let mut late = pending(9, "a1", 1);
    late.message.retry = true;
    let case = Case::new(10, vec![late, pending(11, "a2", 2)]);
    assert_eq!(case.outcome(), (vec![Renumber, Take], 11));
}

#[test]
fn a_message_with_a_lower_seq_than_an_earlier_one_of_its_connection_is_renumbered() {
    // The counter fell back from 12 to 10 while a1 was in flight.
    let fell_back = || vec![pending(12, "a1", 1), pending(11, "a2", 2)];
    assert_eq!(Case::new(10, fell_back()).outcome(), (vec![Renumber, Take], 12));
    // Other connections, retries and redelivered messages do not count.
    let mut case = fell_back();
    case[1].message.origin = Some(ConnectionId { gateway: 2, connection: 1 });
    assert_eq!(Case::new(10, case).outcome(), (vec![Take, Take], 12));
    let mut case = fell_back();
    case[1].message.retry = true;
    assert_eq!(Case::new(10, case).outcome(), (vec![Take, Take], 12));
    let mut case = fell_back();
    case[1].redelivered = true;
    assert_eq!(Case::new(10, case).outcome(), (vec![Take, Take], 12));
}

#[test]
fn a_stored_message_is_known_and_its_seq_is_voided() {
    let case = Case::new(10, messages(&[(11, "a1"), (12, "b1")])).known(0, 4);
    assert_eq!(case.outcome(), (vec![Known { stored: Seq(4) }, Take], 12));
}

#[test]
fn voided_seqs_are_kept_until_a_higher_seq_is_settled() {
    let mut case = Case::new(10, messages(&[(12, "a1")])).known(0, 4);
    let first = case.plan();
    assert_eq!(first.verdicts, [Known { stored: Seq(4) }]);
    case.voided.apply(&case.batch, &first);
    let conversation = case.batch.messages()[0].message.conversation.clone();
    assert_eq!(case.voided.of(&conversation), Some(&BTreeSet::from([Seq(12)])));
    let next = Case { voided: case.voided.clone(), ..Case::new(10, messages(&[(11, "b1"), (13, "b2")])) };
    assert_eq!(next.outcome(), (vec![Take, Take], 13));
    case.voided.apply(&next.batch, &next.plan());
    assert_eq!(case.voided.of(&conversation), None);
}

#[test]
fn a_message_with_a_voided_seq_is_taken() {
    let mut case = Case::new(10, messages(&[(11, "a1")])).known(0, 4);
    case.voided.apply(&case.batch, &case.plan());
    let next = Case { voided: case.voided, ..Case::new(10, messages(&[(11, "b1")])) };
    assert_eq!(next.outcome(), (vec![Take], 11));
}

#[test]
fn the_second_copy_in_a_batch_gets_the_seq_of_the_first() {
    let case = Case::new(10, messages(&[(11, "a1"), (11, "a1"), (12, "a1"), (13, "b1")]));
    let known = Known { stored: Seq(11) };
    assert_eq!(case.outcome(), (vec![Take, known, known, Take], 13));
    // A message of another sender can have the same id.
    let mut other = pending(12, "b1", 2);
    other.message.message.msg_id = MsgId::parse("a1").unwrap();
    assert_eq!(Case::new(10, vec![pending(11, "a1", 1), other]).outcome(), (vec![Take, Take], 12));
}

#[test]
fn an_id_of_another_kind_is_refused_and_its_seq_is_voided() {
    const REUSED: Verdict = Refuse(Denied::IdReused);
    // Stored before this batch. A true copy of the stored message, which was looked up as well, is known.
    let case = Case::new(10, messages(&[(11, "a1"), (12, "a1"), (13, "b1")])).reused(0, 4).known(1, 4);
    assert_eq!(case.outcome(), (vec![REUSED, Known { stored: Seq(4) }, Take], 13));
    // In the same batch.
    let mut copies = messages(&[(11, "a1"), (12, "a1"), (13, "a1"), (14, "a1")]);
    copies[1].message.message.kind = MessageKind::Recall(Seq(3));
    copies[3].message.message.kind = text("another content");
    let known = Known { stored: Seq(11) };
    assert_eq!(Case::new(10, copies).outcome(), (vec![Take, REUSED, known, known], 11));
    // The copy of one that is refused is taken unless it was looked up: the unique key of the table tells.
    let case = Case::new(10, messages(&[(11, "a1"), (12, "a1")])).reused(0, 4);
    assert_eq!(case.outcome(), (vec![REUSED, Take], 12));
}

#[test]
fn a_copy_is_held_while_the_first_one_is_held_or_renumbered() {
    assert_eq!(Case::new(10, messages(&[(12, "a1"), (13, "a1")])).outcome(), (vec![Hold, Hold], 10));
    assert_eq!(Case::new(10, messages(&[(9, "a1"), (11, "a1")])).outcome(), (vec![Renumber, Hold], 10));
}

#[test]
fn a_refused_message_is_not_held_and_its_seq_is_voided() {
    let case = Case::new(10, messages(&[(11, "a1"), (12, "b1"), (13, "a2"), (14, "b2")]));
    assert_eq!(case.refused(0).refused(2).outcome(), (vec![NO_MEMBER, Take, NO_MEMBER, Take], 14));
    // Also above a gap, and below the last sequence number.
    let case = Case::new(10, messages(&[(9, "a1"), (12, "a2"), (13, "b1")])).refused(0).refused(1);
    assert_eq!(case.outcome(), (vec![NO_MEMBER, NO_MEMBER, Hold], 10));
    // Its sequence number is voided.
    let mut case = Case::new(10, messages(&[(11, "a1")])).refused(0);
    case.voided.apply(&case.batch, &case.plan());
    let next = Case { voided: case.voided, ..Case::new(10, messages(&[(12, "b1")])) };
    assert_eq!(next.outcome(), (vec![Take], 12));
}

#[test]
fn a_stored_message_is_never_refused() {
    let case = Case::new(10, messages(&[(10, "a1"), (11, "a2"), (12, "b1")]));
    let outcome = case.refused(0).known(0, 10).refused(1).outcome();
    assert_eq!(outcome, (vec![Known { stored: Seq(10) }, NO_MEMBER, Take], 12));
    // Nor is a copy of it. A copy of a refused message is refused.
    let case = Case::new(10, messages(&[(9, "a1"), (11, "a1")])).refused(0).refused(1).known(0, 9);
    assert_eq!(case.outcome().0, [Known { stored: Seq(9) }; 2]);
    let case = Case::new(10, messages(&[(11, "a1"), (11, "a1"), (12, "a1")]));
    assert_eq!(case.refused(0).refused(1).refused(2).outcome(), (vec![NO_MEMBER; 3], 10));
}

#[test]
fn a_refused_message_does_not_renumber_others_of_its_connection() {
    let case = Case::new(10, messages(&[(10, "a1"), (11, "a2")])).refused(0);
    assert_eq!(case.outcome(), (vec![NO_MEMBER, Take], 11));
}

#[test]
fn a_recall_is_refused_unless_its_sender_may_recall_the_message() {
    let one = || Case::new(10, messages(&[(11, "a1")]));
    let (nothing, not_yours) = (Refuse(Denied::NothingToRecall), Refuse(Denied::NotSender));
    for (stored, of_anyone, expected) in [
        (None, true, nothing),
        (Some(("a", false)), false, Take),
        (Some(("b", false)), false, not_yours),
        (Some(("b", false)), true, Take),
        (Some(("a", true)), true, nothing),
    ] {
        let last = if expected == Take { 11 } else { 10 };
        assert_eq!(one().recall(0, 4, stored, of_anyone).outcome(), (vec![expected], last));
    }
    // The same plan can store the message that it recalls, but only before it.
    let batch = || Case::new(10, messages(&[(11, "a1"), (12, "a2"), (13, "b1")]));
    assert_eq!(batch().recall(1, 11, None, false).outcome(), (vec![Take; 3], 13));
    assert_eq!(batch().recall(1, 13, None, true).outcome(), (vec![Take, nothing, Take], 13));
    assert_eq!(batch().recall(2, 12, None, false).outcome(), (vec![Take, Take, not_yours], 12));
    assert_eq!(batch().refused(0).recall(1, 11, None, false).outcome().0, [NO_MEMBER, nothing, Take]);
    // It is held like any other message, and checked in its turn.
    let case = Case::new(10, messages(&[(12, "a1")])).recall(0, 11, None, false);
    assert_eq!(case.outcome(), (vec![Hold], 10));
}

#[test]
fn a_reaction_that_changes_nothing_is_not_waited_for() {
    let react = |removes| {
        let reaction = Body::reaction("+1".to_owned()).unwrap();
        MessageKind::Reaction { target: Seq(11), reaction, removes }
    };
    let batch = || Case::new(10, messages(&[(11, "a1"), (12, "b1"), (13, "a2")]));
    let case = batch().change(1, react(true), Role::Member, ChangeFacts::default());
    assert_eq!(case.outcome(), (vec![Take, Verdict::Unchanged, Take], 13));
    assert!(case.changes().is_empty());
    let case = batch().change(1, react(false), Role::Member, ChangeFacts::default());
    assert_eq!(case.outcome(), (vec![Take; 3], 13));
    assert_eq!(case.changes().added.len(), 1);
    let case = batch().known(1, 4).change(1, react(false), Role::Member, ChangeFacts::default());
    assert_eq!(case.outcome().0[1], Known { stored: Seq(4) });
    assert!(case.changes().is_empty(), "one that is delivered again does not act again");
}

#[test]
fn conversations_are_independent() {
    let mut other = pending(5, "a1", 1);
    other.message.message.conversation = Conversation::from_key("group_0").unwrap();
    let batch = Batch::new(vec![pending(11, "a1", 2), other]);
    let plan = plan(&Situation {
        batch: &batch,
        heads: &[Seq(3), Seq(10)],
        known: &[None, None],
        refusals: &[None, None],
        rosters: &[],
        facts: &[],
        voided: &VoidedSeqs::default(),
        overdue_since: None,
    });
    assert_eq!((plan.verdicts, plan.heads), (vec![Hold, Take], vec![Seq(3), Seq(11)]));
}

/// An arbitrary moment, the same for all tests.
fn noon() -> Instant {
    static NOON: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *NOON.get_or_init(Instant::now)
}

prop_compose! {
    fn any_pending()(
        seq in 1u64..24,
        id in "[abc][1-4]",
        arrival in 0u64..100,
        marked in prop::bool::weighted(0.1),
        retry in prop::bool::weighted(0.2),
        held_since_ms in prop::option::of(0u64..4_000),
    ) -> Pending {
        let mut one = pending(seq, &id, arrival);
        one.message.jump = marked;
        one.message.retry = retry;
        one.held_since = held_since_ms.map(|ms| noon() + Duration::from_millis(ms));
        one
    }
}

prop_compose! {
    fn any_case()(
        messages in proptest::collection::vec(any_pending(), 1..14),
        head in 0u64..12,
        voided in proptest::collection::btree_set(1u64..24, 0..4),
        stored in proptest::collection::vec(prop::option::weighted(0.15, 1u64..12), 14),
        skips_gaps in any::<bool>(),
        // Refusals.
        mute in "[abcd]",
    ) -> Case {
        let mut case = Case::new(head, messages);
        for (refusal, pending) in case.refusals.iter_mut().zip(case.batch.messages()) {
            *refusal = (pending.message.sender.as_str() == mute).then_some(Denied::NotMember);
        }
        for (known, stored) in case.known.iter_mut().zip(stored) {
            let stored = stored.filter(|stored| *stored <= head).map(Seq);
            *known = stored.map(|seq| KnownMessage { seq, is_reused: false, changed_nothing: false });
        }
        // Voided by an earlier batch of copies.
        let copies: Vec<Pending> = voided.iter().map(|seq| pending(*seq, "z1", 0)).collect();
        let mut before = Case::new(head, copies);
        before.known.fill(Some(KnownMessage { seq: Seq(head), is_reused: false, changed_nothing: false }));
        let plan = before.plan();
        case.voided.apply(&before.batch, &plan);
        case.overdue_since = skips_gaps.then(|| noon() + Duration::from_millis(2_000));
        case
    }
}

proptest! {
    /// Stored sequence numbers rise strictly above the last one, each id is stored once, and the last sequence number is
    /// that of the last row.
    #[test]
    fn stored_seqs_rise_and_ids_are_unique(case in any_case()) {
        let plan = case.plan();
        prop_assert_eq!(plan.verdicts.len(), case.batch.messages().len());
        let mut last = Seq(case.head);
        let mut ids = BTreeSet::new();
        let judged = case.batch.messages().iter().zip(&plan.verdicts);
        for ((pending, verdict), refusal) in judged.zip(&case.refusals) {
            let (refused, known) = (matches!(verdict, Refuse(_)), matches!(verdict, Known { .. }));
            prop_assert!(refusal.is_some() == refused || known);
            if verdict.stores() {
                prop_assert!(pending.seq > last);
                prop_assert!(ids.insert((&pending.message.sender, &pending.message.msg_id)));
                last = pending.seq;
            }
        }
        prop_assert_eq!(plan.heads[0], last);
    }

    /// A sequence number that a message may still have is skipped only by a marked jump or when it is overdue.
    #[test]
    fn gaps_are_skipped_only_for_a_known_reason(case in any_case()) {
        let plan = case.plan();
        let conversation = case.batch.messages()[0].message.conversation.clone();
        let mut settled: BTreeSet<u64> =
            case.voided.of(&conversation).into_iter().flatten().map(|seq| seq.0).collect();
        settled.extend(0..=case.head);
        let mut ids = BTreeSet::new();
        for (pending, verdict) in case.batch.messages().iter().zip(&plan.verdicts) {
            let complete = (0..pending.seq.0).all(|number| settled.contains(&number));
            let copy = !ids.insert((&pending.message.sender, &pending.message.msg_id));
            match verdict {
                Take => prop_assert!(complete),
                Jump { skipped: 0 } => prop_assert!(pending.message.jump),
                Jump { .. } => {
                    let waited = |p: &&Pending| p.seq >= pending.seq && p.held_since <= case.overdue_since;
                    prop_assert!(!complete && case.batch.messages().iter().any(|p| waited(&p)));
                    prop_assert!(case.overdue_since.is_some());
                }
                Hold => prop_assert!(!complete || copy),
                Renumber | Known { .. } | Refuse(_) | Verdict::Unchanged => {}
            }
            match verdict {
                Take | Jump { .. } => settled.extend(0..=pending.seq.0),
                Known { .. } | Renumber | Refuse(_) | Verdict::Unchanged => settled.extend([pending.seq.0]),
                Hold => {}
            }
        }
    }

    /// After all missing messages have arrived, only renumbered messages and their copies are not settled.
    #[test]
    fn a_complete_batch_is_not_held(count in 1u64..20, head in 0u64..5, rotate in 0usize..20) {
        let mut all: Vec<Pending> =
            (head + 1..=head + count).map(|seq| pending(seq, &format!("a{seq}"), seq)).collect();
        let turn = rotate % all.len();
        all.rotate_left(turn);
        let (verdicts, last) = Case::new(head, all).outcome();
        prop_assert!(verdicts.iter().all(|verdict| *verdict == Take));
        prop_assert_eq!(last, head + count);
    }
}
