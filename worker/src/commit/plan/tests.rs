use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use shared::conversation::Conversation;
use shared::message::Numbered;
use shared::message::fixture::numbered;
use shared::permission::{MemberStatus, Role};

use super::*;

/// A message of `group_1`; its id is the sender's letter and a number.
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

/// Everything that the rules see, of one conversation.
#[derive(Debug)]
struct Case {
    batch: Batch,
    head: u64,
    known: Vec<Option<Seq>>,
    refusals: Vec<Option<Denied>>,
    recalls: AHashMap<usize, Recall>,
    spent: Spent,
    patience_ended: Option<Instant>,
}

impl Case {
    fn new(head: u64, messages: Vec<Pending>) -> Self {
        let (known, refusals) = (vec![None; messages.len()], vec![None; messages.len()]);
        let (batch, recalls, spent) = (Batch::new(messages), AHashMap::new(), Spent::default());
        Self { batch, head, known, refusals, recalls, spent, patience_ended: None }
    }

    fn refused(mut self, at: usize) -> Self {
        self.refusals[at] = Some(Denied::NotMember);
        self
    }

    /// The message at `at` recalls `target`, which `stored` sent (and which is stored) if it is given.
    fn recall(mut self, at: usize, target: u64, stored: Option<(&str, bool)>, of_anyone: bool) -> Self {
        let stored = stored.map(|(id, is_recall)| Recallable { sender_id: id.to_owned(), is_recall });
        let role = if of_anyone { Role::Admin } else { Role::Member };
        let status = MemberStatus { role, muted_until: 0 };
        let by = Relation::Member { status, group_is_muted: false };
        self.recalls.insert(at, Recall { target: Seq(target), stored, by });
        self
    }

    fn known(mut self, at: usize, stored: u64) -> Self {
        self.known[at] = Some(Seq(stored));
        self
    }

    fn plan(&self) -> Plan {
        plan(&Situation {
            batch: &self.batch,
            heads: &[Seq(self.head)],
            known: &self.known,
            refusals: &self.refusals,
            recalls: &self.recalls,
            spent: &self.spent,
            patience_ended: self.patience_ended,
        })
    }

    /// Verdicts in order of numbers, and the last number afterwards.
    fn outcome(&self) -> (Vec<Verdict>, u64) {
        let plan = self.plan();
        (plan.verdicts, plan.heads[0].0)
    }
}

use Verdict::{Hold, Jump, Known, Refuse, Renumber, Take};

const NO_MEMBER: Verdict = Refuse(Denied::NotMember);

#[test]
fn consecutive_numbers_are_taken_whatever_order_they_came_in() {
    let case = Case::new(10, messages(&[(12, "a1"), (11, "b1"), (13, "a2")]));
    assert_eq!(case.outcome(), (vec![Take, Take, Take], 13));
}

#[test]
fn what_lies_above_a_gap_waits() {
    let case = Case::new(10, messages(&[(11, "a1"), (13, "a2"), (14, "b1")]));
    assert_eq!(case.outcome(), (vec![Take, Hold, Hold], 11));
}

#[test]
fn all_gaps_below_whoever_waited_long_enough_are_given_up_together() {
    let now = Instant::now();
    let mut waiting = messages(&[(12, "a1"), (15, "a2"), (17, "b1")]);
    waiting[1].held_since = Some(now);
    let mut case = Case::new(10, waiting);
    case.patience_ended = Some(now);
    assert_eq!(case.outcome(), (vec![Jump { given_up: 1 }, Jump { given_up: 2 }, Hold], 15));
    case.patience_ended = now.checked_sub(Duration::from_millis(1));
    assert_eq!(case.outcome(), (vec![Hold, Hold, Hold], 10));
}

#[test]
fn a_marked_jump_waits_for_nothing_but_does_not_overtake_what_is_held() {
    let after_loss = || jump(pending(1011, "b1", 2));
    let case = Case::new(10, vec![after_loss(), pending(1012, "b2", 3)]);
    assert_eq!(case.outcome(), (vec![Jump { given_up: 0 }, Take], 1012));
    let case = Case::new(10, vec![pending(11, "a1", 1), after_loss()]);
    assert_eq!(case.outcome(), (vec![Take, Jump { given_up: 0 }], 1011));
    let case = Case::new(10, vec![pending(12, "a1", 1), after_loss()]);
    assert_eq!(case.outcome(), (vec![Hold, Hold], 10));
}

#[test]
fn a_fresh_number_is_no_jump() {
    let mut renumbered = jump(pending(11, "a1", 1));
    renumbered.renumber(Seq(20));
    assert_eq!(Case::new(15, vec![renumbered]).outcome(), (vec![Hold], 15));
}

#[test]
fn a_number_that_is_over_is_replaced() {
    let case = Case::new(10, messages(&[(10, "a1"), (11, "b1")]));
    assert_eq!(case.outcome(), (vec![Renumber, Take], 11));
}

#[test]
fn of_two_messages_with_one_number_the_first_to_arrive_keeps_it() {
    let case = Case::new(10, vec![pending(11, "b1", 2), pending(11, "a1", 1)]);
    assert_eq!(case.batch.messages()[0].message.msg_id.as_str(), "a1");
    assert_eq!(case.outcome(), (vec![Take, Renumber], 11));
}

#[test]
fn what_a_sender_sent_after_a_renumbered_message_stays_after_it() {
    // The counter fell back to 9 and passed the last number again: a2 would be taken before a1.
    let case = Case::new(10, messages(&[(10, "a1"), (11, "b1"), (12, "a2"), (13, "b2")]));
    // 12 is spent, so b2 need not wait for it.
    assert_eq!(case.outcome(), (vec![Renumber, Take, Renumber, Take], 13));
    // A message that arrived before it keeps its number, and so does everything if it was only sent late.
    let case = Case::new(10, vec![pending(11, "a1", 1), pending(9, "a2", 2)]);
    assert_eq!(case.outcome(), (vec![Renumber, Take], 11));
    let mut late = pending(9, "a1", 1);
    late.message.retry = true;
    let case = Case::new(10, vec![late, pending(11, "a2", 2)]);
    assert_eq!(case.outcome(), (vec![Renumber, Take], 11));
}

#[test]
fn a_lower_number_that_its_connection_sent_later_is_replaced() {
    // The counter fell back from 12 to 10 while a1 was on its way.
    let fell_back = || vec![pending(12, "a1", 1), pending(11, "a2", 2)];
    assert_eq!(Case::new(10, fell_back()).outcome(), (vec![Renumber, Take], 12));
    // Another connection, a retry, or a message that the broker put back say nothing about the order.
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
fn a_stored_message_ends_and_its_number_is_not_waited_for() {
    let case = Case::new(10, messages(&[(11, "a1"), (12, "b1")])).known(0, 4);
    assert_eq!(case.outcome(), (vec![Known { stored: Seq(4) }, Take], 12));
}

#[test]
fn spent_numbers_are_remembered_until_they_are_passed() {
    let mut case = Case::new(10, messages(&[(12, "a1")])).known(0, 4);
    let first = case.plan();
    assert_eq!(first.verdicts, [Known { stored: Seq(4) }]);
    case.spent.apply(&case.batch, &first);
    let conversation = case.batch.messages()[0].message.conversation.clone();
    assert_eq!(case.spent.of(&conversation), Some(&BTreeSet::from([Seq(12)])));
    let next = Case { spent: case.spent.clone(), ..Case::new(10, messages(&[(11, "b1"), (13, "b2")])) };
    assert_eq!(next.outcome(), (vec![Take, Take], 13));
    case.spent.apply(&next.batch, &next.plan());
    assert_eq!(case.spent.of(&conversation), None);
}

#[test]
fn a_spent_number_that_someone_brings_after_all_is_used() {
    let mut case = Case::new(10, messages(&[(11, "a1")])).known(0, 4);
    case.spent.apply(&case.batch, &case.plan());
    let next = Case { spent: case.spent, ..Case::new(10, messages(&[(11, "b1")])) };
    assert_eq!(next.outcome(), (vec![Take], 11));
}

#[test]
fn the_second_copy_in_a_batch_gets_the_number_of_the_first() {
    let case = Case::new(10, messages(&[(11, "a1"), (11, "a1"), (12, "a1"), (13, "b1")]));
    let known = Known { stored: Seq(11) };
    assert_eq!(case.outcome(), (vec![Take, known, known, Take], 13));
    // Another sender's message may have the same id.
    let mut other = pending(12, "b1", 2);
    other.message.message.msg_id = MsgId::parse("a1").unwrap();
    assert_eq!(Case::new(10, vec![pending(11, "a1", 1), other]).outcome(), (vec![Take, Take], 12));
}

#[test]
fn a_copy_waits_for_the_fate_of_a_held_or_renumbered_first() {
    assert_eq!(Case::new(10, messages(&[(12, "a1"), (13, "a1")])).outcome(), (vec![Hold, Hold], 10));
    assert_eq!(Case::new(10, messages(&[(9, "a1"), (11, "a1")])).outcome(), (vec![Renumber, Hold], 10));
}

#[test]
fn who_may_not_send_is_refused_at_once_and_nobody_waits_for_its_number() {
    let case = Case::new(10, messages(&[(11, "a1"), (12, "b1"), (13, "a2"), (14, "b2")]));
    assert_eq!(case.refused(0).refused(2).outcome(), (vec![NO_MEMBER, Take, NO_MEMBER, Take], 14));
    // Above a gap and below the last number too.
    let case = Case::new(10, messages(&[(9, "a1"), (12, "a2"), (13, "b1")])).refused(0).refused(1);
    assert_eq!(case.outcome(), (vec![NO_MEMBER, NO_MEMBER, Hold], 10));
    // Its number is remembered as spent.
    let mut case = Case::new(10, messages(&[(11, "a1")])).refused(0);
    case.spent.apply(&case.batch, &case.plan());
    let next = Case { spent: case.spent, ..Case::new(10, messages(&[(12, "b1")])) };
    assert_eq!(next.outcome(), (vec![Take], 12));
}

#[test]
fn what_is_stored_is_never_refused() {
    let case = Case::new(10, messages(&[(10, "a1"), (11, "a2"), (12, "b1")]));
    let outcome = case.refused(0).known(0, 10).refused(1).outcome();
    assert_eq!(outcome, (vec![Known { stored: Seq(10) }, NO_MEMBER, Take], 12));
    // Nor is a copy of it; one of a refused message is.
    let case = Case::new(10, messages(&[(9, "a1"), (11, "a1")])).refused(0).refused(1).known(0, 9);
    assert_eq!(case.outcome().0, [Known { stored: Seq(9) }; 2]);
    let case = Case::new(10, messages(&[(11, "a1"), (11, "a1"), (12, "a1")]));
    assert_eq!(case.refused(0).refused(1).refused(2).outcome(), (vec![NO_MEMBER; 3], 10));
}

#[test]
fn a_refused_message_displaces_none_of_its_connection() {
    let case = Case::new(10, messages(&[(10, "a1"), (11, "a2")])).refused(0);
    assert_eq!(case.outcome(), (vec![NO_MEMBER, Take], 11));
}

#[test]
fn a_recall_needs_a_message_that_its_sender_may_recall() {
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
    // What it recalls may be stored by the same plan, but only before it.
    let batch = || Case::new(10, messages(&[(11, "a1"), (12, "a2"), (13, "b1")]));
    assert_eq!(batch().recall(1, 11, None, false).outcome(), (vec![Take; 3], 13));
    assert_eq!(batch().recall(1, 13, None, true).outcome(), (vec![Take, nothing, Take], 13));
    assert_eq!(batch().recall(2, 12, None, false).outcome(), (vec![Take, Take, not_yours], 12));
    assert_eq!(batch().refused(0).recall(1, 11, None, false).outcome().0, [NO_MEMBER, nothing, Take]);
    // It waits for its turn like any other, and is judged then.
    let case = Case::new(10, messages(&[(12, "a1")])).recall(0, 11, None, false);
    assert_eq!(case.outcome(), (vec![Hold], 10));
}

#[test]
fn conversations_do_not_touch_each_other() {
    let mut other = pending(5, "a1", 1);
    other.message.message.conversation = Conversation::from_key("group_0").unwrap();
    let batch = Batch::new(vec![pending(11, "a1", 2), other]);
    let plan = plan(&Situation {
        batch: &batch,
        heads: &[Seq(3), Seq(10)],
        known: &[None, None],
        refusals: &[None, None],
        recalls: &AHashMap::new(),
        spent: &Spent::default(),
        patience_ended: None,
    });
    assert_eq!((plan.verdicts, plan.heads), (vec![Hold, Take], vec![Seq(3), Seq(11)]));
}

/// An arbitrary moment, the same in the whole run.
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
        spent in proptest::collection::btree_set(1u64..24, 0..4),
        stored in proptest::collection::vec(prop::option::weighted(0.15, 1u64..12), 14),
        giving_up in any::<bool>(),
        // Who may not send.
        mute in "[abcd]",
    ) -> Case {
        let mut case = Case::new(head, messages);
        for (refusal, pending) in case.refusals.iter_mut().zip(case.batch.messages()) {
            *refusal = (pending.message.sender.as_str() == mute).then_some(Denied::NotMember);
        }
        for (known, stored) in case.known.iter_mut().zip(stored) {
            *known = stored.filter(|stored| *stored <= head).map(Seq);
        }
        // Spent by an earlier batch of copies.
        let copies: Vec<Pending> = spent.iter().map(|seq| pending(*seq, "z1", 0)).collect();
        let mut before = Case::new(head, copies);
        before.known.fill(Some(Seq(head)));
        let plan = before.plan();
        case.spent.apply(&before.batch, &plan);
        case.patience_ended = giving_up.then(|| noon() + Duration::from_millis(2_000));
        case
    }
}

proptest! {
    /// What is stored rises strictly from the last number, each id once, and the last number is that of the last row.
    #[test]
    fn stored_numbers_rise_and_ids_are_unique(case in any_case()) {
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

    /// Nobody passes a number that somebody may still bring, but by a marked jump or when it was waited for.
    #[test]
    fn gaps_are_passed_for_a_reason_only(case in any_case()) {
        let plan = case.plan();
        let conversation = case.batch.messages()[0].message.conversation.clone();
        let mut settled: BTreeSet<u64> =
            case.spent.of(&conversation).into_iter().flatten().map(|seq| seq.0).collect();
        settled.extend(0..=case.head);
        let mut ids = BTreeSet::new();
        for (pending, verdict) in case.batch.messages().iter().zip(&plan.verdicts) {
            let complete = (0..pending.seq.0).all(|number| settled.contains(&number));
            let copy = !ids.insert((&pending.message.sender, &pending.message.msg_id));
            match verdict {
                Take => prop_assert!(complete),
                Jump { given_up: 0 } => prop_assert!(pending.message.jump),
                Jump { .. } => {
                    let waited = |p: &&Pending| p.seq >= pending.seq && p.held_since <= case.patience_ended;
                    prop_assert!(!complete && case.batch.messages().iter().any(|p| waited(&p)));
                    prop_assert!(case.patience_ended.is_some());
                }
                Hold => prop_assert!(!complete || copy),
                Renumber | Known { .. } | Refuse(_) => {}
            }
            match verdict {
                Take | Jump { .. } => settled.extend(0..=pending.seq.0),
                Known { .. } | Renumber | Refuse(_) => settled.extend([pending.seq.0]),
                Hold => {}
            }
        }
    }

    /// When all the missing numbers are in, everything is settled but for renumbered messages and their copies.
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
