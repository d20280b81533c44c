//! Where a message is, by what the stores know. Pure.

use super::report::{Numbered, Queue, State, Stored};
use crate::text::count;

/// What the stores know about a message.
#[derive(Debug, Default)]
pub(super) struct Facts<'f> {
    pub(super) numbered: Option<&'f Numbered>,
    pub(super) stored: Option<&'f Stored>,
    /// Read before the row was looked for.
    pub(super) last_seq: u64,
    pub(super) queue: Queue,
    /// The number of dead letters that contain it.
    pub(super) dead_letters: usize,
}

/// The state, and what it means.
pub(super) fn conclude(facts: &Facts<'_>) -> (State, String) {
    if let Some(stored) = facts.stored {
        let seq = stored.seq;
        return match stored.is_recalled {
            false => (State::Stored, format!("it is stored with sequence number {seq}")),
            true => (State::Recalled, format!("it is stored with sequence number {seq}, and was recalled")),
        };
    }
    if facts.dead_letters > 0 {
        let message = "it cannot be stored, and is a dead letter: `imctl dead-letters show` says why";
        return (State::DeadLetter, message.to_owned());
    }
    let Some(numbered) = facts.numbered else {
        return (State::NotStored, "Redis does not remember it, and it is not stored".to_owned());
    };
    let (seq, last_seq) = (numbered.seq, facts.last_seq);
    if seq <= last_seq {
        let message = format!(
            "it was given number {seq}, the conversation is at {last_seq}, and it is not stored: it was refused at the commit \
             (its sender got 403 or 404), or its gateway ended before it was published (its sender got no code 0), or it is \
             being renumbered at this moment. A retry with the same msg_id is stored"
        );
        return (State::NotStored, message);
    }
    (
        State::Pending,
        format!("it was given number {seq}, and the conversation is at {last_seq}: {}", waiting(facts.queue)),
    )
}

fn waiting(queue: Queue) -> String {
    let ready = count(usize::try_from(queue.ready_bodies).unwrap_or(usize::MAX), "body", "bodies");
    match queue {
        Queue { is_known: false, .. } => "the state of its queue is not known".to_owned(),
        Queue { consumers: 0, ready_bodies: 0, .. } => {
            "its queue is empty, and no worker consumes it: it was not published (its sender got no code 0 and retries)"
                .to_owned()
        }
        Queue { consumers: 0, .. } => format!("its queue has {ready}, and no worker consumes it: start a worker"),
        Queue { ready_bodies: 0, .. } => {
            "its queue is empty: a worker is processing it, or it was not published (its sender got no code 0 and retries)"
                .to_owned()
        }
        Queue { .. } => format!(
            "its queue has {ready}, and a worker consumes it: it is committed in its turn, unless it was not published (its \
             sender got no code 0 and retries)"
        ),
    }
}

/// Whether the stored number is another one than the first.
pub(super) fn is_renumbered(numbered: Option<&Numbered>, stored: Option<&Stored>) -> Option<bool> {
    let (numbered, stored) = numbered.zip(stored)?;
    // A renumbering records the new number without a fingerprint.
    Some(numbered.fingerprint.is_none() || numbered.seq != stored.seq)
}

/// What no store knows about a message in this state.
pub(super) fn not_known(state: State, is_announced: Option<bool>) -> Vec<&'static str> {
    let mut not_known = Vec::new();
    match state {
        State::Stored | State::Recalled => {
            if is_announced.is_none() {
                not_known
                    .push("whether the gateways were told: no user who was looked at has an inbox with it");
            }
            not_known.push("to which connections it was pushed: pushes are not recorded");
        }
        State::Pending | State::NotStored => {
            not_known
                .push("whether RabbitMQ has it: a queue with a single active consumer cannot be looked into");
            not_known.push("what its sender was answered: answers are not recorded");
        }
        State::DeadLetter => {}
    }
    not_known
}

/// What it means that no store knows the id.
pub(super) fn nothing(sent_ttl_s: u32) -> String {
    format!(
        "no message with this id is stored, and none was numbered within the last {sent_ttl_s} s (redis.sent_ttl_s): it never \
         reached a gateway, was refused, or has another id or conversation"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(seq: u64) -> Numbered {
        Numbered { seq, fingerprint: Some("001000000".to_owned()), at_ms: 0, remaining_s: 1 }
    }

    fn stored(seq: u64) -> Stored {
        Stored { seq, msg_type: 1, sent_at_ms: 0, stored_at_ms: 0, is_recalled: false }
    }

    #[test]
    fn each_place_of_a_message_is_recognized() {
        let (seven, row) = (numbered(7), stored(7));
        let recalled = Stored { is_recalled: true, ..stored(7) };
        let state = |facts: Facts<'_>| conclude(&facts).0;
        let known = Facts { numbered: Some(&seven), ..Facts::default() };
        assert_eq!(state(Facts { stored: Some(&row), dead_letters: 1, ..known }), State::Stored);
        assert_eq!(state(Facts { stored: Some(&recalled), ..Facts::default() }), State::Recalled);
        assert_eq!(state(Facts { numbered: Some(&seven), last_seq: 6, ..Facts::default() }), State::Pending);
        assert_eq!(
            state(Facts { numbered: Some(&seven), last_seq: 7, ..Facts::default() }),
            State::NotStored
        );
        assert_eq!(
            state(Facts { numbered: Some(&seven), dead_letters: 1, ..Facts::default() }),
            State::DeadLetter
        );
    }

    #[test]
    fn a_pending_message_is_explained_by_its_queue() {
        let seven = numbered(7);
        let says = |is_known, ready_bodies, consumers| {
            let queue = Queue { is_known, ready_bodies, consumers };
            conclude(&Facts { numbered: Some(&seven), queue, ..Facts::default() }).1
        };
        for (text, part) in [
            (says(false, 0, 0), "not known"),
            (says(true, 0, 0), "was not published"),
            (says(true, 3, 0), "start a worker"),
            (says(true, 0, 1), "a worker is processing it"),
            (says(true, 3, 1), "has 3 bodies, and a worker"),
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_renumbered_message_is_recognized_if_redis_remembers_it() {
        let (seven, row) = (numbered(7), stored(7));
        assert_eq!(is_renumbered(Some(&seven), Some(&row)), Some(false));
        assert_eq!(is_renumbered(Some(&seven), Some(&stored(9))), Some(true));
        let again = Numbered { fingerprint: None, ..numbered(7) };
        assert_eq!(is_renumbered(Some(&again), Some(&row)), Some(true));
        assert_eq!(is_renumbered(None, Some(&row)), None);
    }
}
