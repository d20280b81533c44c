use std::sync::Arc;

use shared::message::fixture;
use tokio::sync::Semaphore;

use super::*;
use crate::outbox::Outbox;

fn message(reply_when_stored: bool) -> Numbered {
    Numbered { reply_when_stored, ..fixture::numbered("group_1", 7, "alice", "m1") }
}

/// A message whose reply is due at `deadline`, and the outbox that it goes to.
fn numbered(reply_when_stored: bool, deadline: Instant) -> (Vec<InFlightMessage>, Arc<Outbox>) {
    let (outbox, message) = (Outbox::for_test(), message(reply_when_stored));
    let reply = PendingReply::new(outbox.reserve(), message.id(), deadline);
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (vec![InFlightMessage::new(message, reply, permit)], outbox)
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn group() -> Conversation {
    message(false).message.conversation
}

fn forbidden() -> ApiError {
    ApiError::Forbidden("not a member".to_owned())
}

fn stored_reply(seq: u64) -> String {
    format!(r#"{{"cmd":2,"code":0,"msg_id":"m1","conversation_id":"group_1","seq":{seq}}}"#)
}

#[test]
fn an_accepted_reply_waits_for_the_confirm_and_a_stored_reply_for_the_commit() {
    let in_flight = InFlight::new();
    let ((accepted, at_confirm), (stored, at_commit)) = (numbered(false, later()), numbered(true, later()));
    let publishing = in_flight.publish(accepted.into_iter().chain(stored).collect());
    assert!(at_confirm.pop().is_none());
    publishing.confirmed();
    assert_eq!(at_confirm.pop().unwrap(), stored_reply(7));
    assert!(at_commit.pop().is_none());
    in_flight.stored(&group(), "alice", "m1", Seq(7));
    assert_eq!(at_commit.pop().unwrap(), stored_reply(7));
    assert!(at_confirm.pop().is_none());
}

#[test]
fn the_commit_sends_every_reply_that_waits_for_the_message() {
    let in_flight = InFlight::new();
    let ((first, at_first), (retry, at_retry)) = (numbered(true, later()), numbered(true, later()));
    let (_first, _retry) = (in_flight.publish(first), in_flight.publish(retry));
    in_flight.stored(&group(), "bob", "m1", Seq(9));
    assert!(at_first.pop().is_none(), "another sender's message of the same id");
    in_flight.stored(&group(), "alice", "m1", Seq(9));
    assert_eq!(
        (at_first.pop().unwrap(), at_retry.pop().unwrap()),
        (stored_reply(9).into(), stored_reply(9).into())
    );
}

#[test]
fn a_message_that_is_not_stored_in_time_is_refused_once() {
    let in_flight = InFlight::new();
    let (batch, outbox) = numbered(true, Instant::now());
    in_flight.publish(batch).confirmed();
    in_flight.expire(Instant::now());
    assert!(outbox.pop().unwrap().contains(r#""code":503"#));
    in_flight.stored(&group(), "alice", "m1", Seq(7));
    assert!(outbox.pop().is_none());
}

#[test]
fn a_failed_batch_sends_every_reply_once() {
    let in_flight = InFlight::new();
    let ((accepted, at_confirm), (stored, at_commit)) = (numbered(false, later()), numbered(true, later()));
    in_flight.publish(accepted.into_iter().chain(stored).collect()).failed("the message queue is full");
    for outbox in [at_confirm, at_commit] {
        assert!(outbox.pop().unwrap().contains(r#""code":503"#));
        assert!(outbox.pop().is_none() && !outbox.owes_replies());
    }
    in_flight.stored(&group(), "alice", "m1", Seq(7));
}

#[test]
fn a_refusal_by_the_worker_decides_waiting_replies_and_later_confirms() {
    let in_flight = InFlight::new();
    let ((accepted, at_confirm), (stored, at_commit)) = (numbered(false, later()), numbered(true, later()));
    let publishing = in_flight.publish(accepted.into_iter().chain(stored).collect());
    in_flight.refused(&group(), "alice", "m1", forbidden());
    assert!(at_commit.pop().unwrap().contains(r#""code":403"#));
    publishing.confirmed();
    assert!(at_confirm.pop().unwrap().contains(r#""code":403"#));
    let (retry, outbox) = numbered(false, later());
    in_flight.publish(retry).confirmed();
    assert_eq!(outbox.pop().unwrap(), stored_reply(7), "the refusal of an earlier attempt does not count");
}

#[test]
fn a_renumbering_before_the_confirm_decides_the_reply() {
    let in_flight = InFlight::new();
    let ((first, at_first), (second, at_second)) = (numbered(false, later()), numbered(false, later()));
    let (confirmed, failed) = (in_flight.publish(first), in_flight.publish(second));
    in_flight.renumbered(&group(), "alice", "m1", Seq(12));
    confirmed.confirmed();
    failed.failed("the message queue did not confirm");
    assert_eq!(at_first.pop().unwrap(), stored_reply(12));
    assert_eq!(
        at_second.pop().unwrap(),
        stored_reply(12),
        "it is stored, although the broker did not confirm"
    );
    in_flight.expire(Instant::now() + OUTCOME_TTL);
    let (later, outbox) = numbered(false, later());
    in_flight.publish(later).confirmed();
    assert_eq!(outbox.pop().unwrap(), stored_reply(7));
}

#[test]
fn a_dropped_reply_is_a_503() {
    let in_flight = InFlight::new();
    let ((accepted, at_confirm), (stored, at_commit)) = (numbered(false, later()), numbered(true, later()));
    drop(in_flight.publish(accepted.into_iter().chain(stored).collect()));
    assert!(at_confirm.pop().unwrap().contains(r#""code":503"#));
    assert!(at_commit.pop().is_none(), "the broker may have it all the same");
    drop(in_flight);
    assert!(at_commit.pop().unwrap().contains(r#""code":503"#));
}

#[test]
fn outcomes_are_remembered_up_to_a_limit() {
    let in_flight = InFlight::new();
    for n in 0..=OUTCOMES_MAX {
        in_flight.renumbered(&group(), "alice", &format!("m{n}"), Seq(12));
    }
    in_flight.refused(&group(), "alice", "m1", forbidden());
    assert_eq!(in_flight.outcomes.read().len(), OUTCOMES_MAX);
    let (batch, outbox) = numbered(false, later());
    let publishing = in_flight.publish(batch);
    in_flight.refused(&group(), "alice", "m1", forbidden());
    publishing.confirmed();
    assert!(outbox.pop().unwrap().contains(r#""code":403"#), "a remembered outcome can still change");
}

#[test]
fn a_code_0_says_what_was_replaced_unless_an_earlier_message_stays() {
    let replaced = || Replaced { content: Some("***".to_owned()), meta: None };
    let outbox = Outbox::for_test();
    let reply = || PendingReply::new(outbox.reserve(), message(false).id(), later());
    let mut first = reply();
    first.replaced(replaced());
    first.accept(Seq(7));
    let expected = r#""payload":{"replaced":true,"content":"***"}"#;
    assert!(outbox.pop().unwrap().contains(expected));
    let mut retry = reply();
    retry.replaced(replaced());
    retry.content_differs();
    retry.accept(Seq(7));
    let told = outbox.pop().unwrap();
    assert!(told.contains("content_differs") && !told.contains("***"), "{told}");
}
