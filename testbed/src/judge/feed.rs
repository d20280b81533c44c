//! The rules about a reader of the change feed.

use std::collections::HashMap;

use super::conversations::Lists;
use super::verdict::Verdict;
use crate::client::{FeedEvent, StoredMessage};

/// What a reader saw of one conversation.
#[derive(Debug, Default)]
struct Followed<'e> {
    /// The number up to which it has seen every one.
    last: u64,
    messages: Vec<&'e StoredMessage>,
}

/// Judges a reader that followed the feed from before the first message on to its end. `shards`: the events of each shard.
/// Each number of a conversation must be there once, in order, with the entry that the final list has, or as voided.
pub fn judge_feed(shards: &[Vec<FeedEvent>], lists: &Lists, verdict: &mut Verdict) {
    let mut followed: HashMap<&str, Followed<'_>> = HashMap::new();
    for event in shards.iter().flatten() {
        let (conversation, first, last, message) = match event {
            FeedEvent::Message(conversation, message) => {
                (conversation, message.seq, message.seq, Some(&**message))
            }
            FeedEvent::Voided(conversation, first, last) => (conversation, *first, *last, None),
            FeedEvent::Other => continue,
        };
        let followed = followed.entry(conversation).or_default();
        let expected = followed.last + 1;
        let example = || format!("feed: {first} of {conversation} came where {expected} was expected");
        if first < expected {
            verdict.record(|v| &mut v.doubled, example);
        } else if first > expected {
            verdict.record(|v| &mut v.lost, example);
        }
        followed.last = followed.last.max(last);
        followed.messages.extend(message);
    }
    for (conversation, list) in lists {
        let none = Followed::default();
        let followed = followed.get(conversation.as_str()).unwrap_or(&none);
        judge_messages(conversation, &followed.messages, list, verdict);
    }
}

fn judge_messages(
    conversation: &str,
    followed: &[&StoredMessage],
    list: &[StoredMessage],
    verdict: &mut Verdict,
) {
    let id = |message: &StoredMessage| (message.seq, message.sender_id.clone(), message.msg_id.clone());
    if followed.len() == list.len() && followed.iter().zip(list).all(|(seen, there)| id(seen) == id(there)) {
        return;
    }
    let first = followed.iter().zip(list).position(|(seen, there)| id(seen) != id(there));
    let example = || {
        format!(
            "feed: {} of {} entries of {conversation}; first difference at {first:?}",
            followed.len(),
            list.len()
        )
    };
    verdict.record(|v| &mut v.different, example);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> StoredMessage {
        StoredMessage { seq, msg_id: format!("m{seq}"), sender_id: "ann".into(), ..StoredMessage::default() }
    }

    fn judged(change: impl FnOnce(&mut Vec<FeedEvent>)) -> Verdict {
        let event = |seq| FeedEvent::Message("group_1".into(), Box::new(message(seq)));
        let mut events =
            vec![event(1), FeedEvent::Other, event(2), FeedEvent::Voided("group_1".into(), 3, 4), event(5)];
        change(&mut events);
        let lists = Lists::from([("group_1".to_owned(), [1, 2, 5].map(message).to_vec())]);
        let mut verdict = Verdict::default();
        judge_feed(&[events, Vec::new()], &lists, &mut verdict);
        verdict
    }

    #[test]
    fn a_reader_of_the_feed_must_see_every_number_once_in_order() {
        assert!(judged(|_| {}).is_good());
        assert_eq!(judged(|events| drop(events.remove(0))).lost, 1);
        assert_eq!(judged(|events| drop(events.remove(3))).lost, 1, "a voided number");
        assert_eq!(judged(|events| drop(events.pop())).different, 1);
        assert_eq!(judged(|events| events.insert(1, events[0].clone())).doubled, 1);
        assert_eq!(judged(|events| events.push(events[3].clone())).doubled, 1);
        let swapped = judged(|events| events.swap(0, 2));
        assert_eq!((swapped.lost, swapped.doubled), (1, 1), "{swapped}");
        assert!(!judged(|events| events.clear()).is_good());
        let other = judged(|events| events[0] = FeedEvent::Message("group_1".into(), Box::default()));
        assert!(!other.is_good());
    }
}
