//! The rules: comparisons without I/O.

use std::collections::HashMap;

use im_client::SYSTEM;

use super::changes::{applied, changed_nothing, judge_state};
use super::verdict::Verdict;
use crate::client::{Kind, Reader, Sender, StoredMessage};

/// A message that is stored under another sequence number than its sender was last told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renumbered {
    /// The index of the sender.
    pub(super) sender: usize,
    /// The index of its message.
    pub(super) n: usize,
    pub(super) acked: u64,
    pub(super) seq: u64,
}

/// Judges one conversation: compares the acknowledgements of its senders with the list that a pull returns. Returns the
/// messages whose senders may have missed a corrected reply; a retry must tell them.
#[must_use]
pub fn judge_list(senders: &[&Sender], list: &[StoredMessage], verdict: &mut Verdict) -> Vec<Renumbered> {
    for pair in list.windows(2) {
        if pair[0].seq >= pair[1].seq {
            verdict.record(|v| &mut v.unordered, || format!("{} after {}", pair[1].seq, pair[0].seq));
        }
    }
    judge_state(list, verdict);
    let mut renumbered = Vec::new();
    for (at, places) in places_of(senders, list, verdict).iter().enumerate() {
        judge_sender((at, senders[at]), list, places, &mut renumbered, verdict);
    }
    renumbered
}

/// By sender and message: its sequence number in the list.
type Places = Vec<Vec<Option<u64>>>;

/// Finds each message of the list among those that were sent.
fn places_of(senders: &[&Sender], list: &[StoredMessage], verdict: &mut Verdict) -> Places {
    let of: HashMap<&str, usize> =
        senders.iter().enumerate().map(|(at, sender)| (sender.user.as_str(), at)).collect();
    let mut places: Places = senders.iter().map(|sender| vec![None; sender.sent.len()]).collect();
    // The server tells who made a group and who joined it.
    for message in list.iter().filter(|message| message.msg_type != SYSTEM) {
        let at = of.get(message.sender_id.as_str()).copied();
        let n = message.msg_id.rsplit_once('-').and_then(|(_, n)| n.parse::<usize>().ok());
        let known = at
            .zip(n)
            .filter(|(at, n)| senders[*at].msg_id(*n) == message.msg_id && *n < senders[*at].sent.len());
        let Some((at, n)) = known else {
            verdict.record(|v| &mut v.foreign, || format!("foreign: {message:?}"));
            continue;
        };
        if !is_as_sent(senders[at], n, message) {
            verdict.record(|v| &mut v.altered, || format!("altered: {message:?}"));
        }
        if places[at][n].replace(message.seq).is_some() {
            verdict.record(
                |v| &mut v.doubled,
                || format!("doubled: {} of {}", message.msg_id, message.sender_id),
            );
        }
    }
    places
}

/// Whether a message has the content with which it was sent, unless it was edited: then the state is judged.
fn is_as_sent(sender: &Sender, n: usize, message: &StoredMessage) -> bool {
    match sender.sent[n].kind {
        Kind::Text => message.edited_at.is_some() || message.content == sender.content(n),
        Kind::Edit { target } => message.edit_seq == Some(target) && message.content == sender.content(n),
        Kind::Reaction { target, reaction, removes } => {
            (message.react_seq, message.reaction.as_deref(), message.remove)
                == (Some(target), Some(reaction), removes)
        }
    }
}

/// Whether an acknowledged message that is not in the list need not be there.
fn may_be_missing(sender: &Sender, n: usize, acked: u64, list: &[StoredMessage]) -> bool {
    match sender.sent[n].kind {
        Kind::Reaction { target, reaction, removes } => {
            changed_nothing(list, &sender.user, (target, reaction, removes), acked)
        }
        Kind::Text | Kind::Edit { .. } => false,
    }
}

/// Compares the acknowledgements of one sender with the places of its messages.
fn judge_sender(
    (at, sender): (usize, &Sender),
    list: &[StoredMessage],
    places: &[Option<u64>],
    renumbered: &mut Vec<Renumbered>,
    verdict: &mut Verdict,
) {
    let mut last = 0;
    for (n, (sent, place)) in sender.sent.iter().zip(places).enumerate() {
        if let Some(acked) = sent.acked {
            verdict.acked += 1;
            match place {
                None if may_be_missing(sender, n, acked, list) => {}
                None => verdict.record(
                    |v| &mut v.lost,
                    || format!("lost: {} with seq {acked}: {:?}", sender.msg_id(n), sent.kind),
                ),
                Some(seq) if *seq != acked => renumbered.push(Renumbered { sender: at, n, acked, seq: *seq }),
                Some(_) => {}
            }
        }
        // A message that was sent again, or renumbered in a repair that its sender has not heard of, may have a later
        // place.
        if let Some(seq) = place
            && !sent.repeated
            && sent.acked.is_none_or(|acked| acked == *seq)
        {
            if *seq < last {
                verdict.record(
                    |v| &mut v.reordered,
                    || format!("reordered: {} at {seq} after {last}", sender.msg_id(n)),
                );
            }
            last = last.max(*seq);
        }
    }
}

/// Judges the pages that a reader pulled during the run, each from the cursor of the page before: together they must be
/// the beginning of the final list.
pub fn judge_reader(seen: &[StoredMessage], list: &[StoredMessage], verdict: &mut Verdict) {
    let last = seen.last().map_or(0, |message| message.seq);
    let settled: Vec<_> = list.iter().take_while(|message| message.seq <= last).collect();
    let missing =
        settled.iter().filter(|message| seen.binary_search_by_key(&message.seq, |m| m.seq).is_err());
    for message in missing {
        verdict.record(
            |v| &mut v.undercut,
            || format!("undercut: {} came below the cursor {last}", message.seq),
        );
    }
    if seen.len() > settled.len() {
        verdict.record(|v| &mut v.lost, || "a reader got messages that are no longer there".to_owned());
    }
}

/// Judges a reader that followed the conversation to its end: at each cursor it must have had all messages below it, and
/// at the end the final list.
pub fn judge_follower(reader: &Reader, list: &[StoredMessage], verdict: &mut Verdict) {
    for complaint in &reader.complaints {
        verdict.record(|v| &mut v.undercut, || complaint.clone());
    }
    for (cursor, seen) in &reader.cursors {
        let below = list.partition_point(|message| message.seq <= *cursor);
        if below != *seen {
            let example = || {
                format!("{} had {seen} messages at the cursor {cursor}, and {below} are stored", reader.user)
            };
            verdict.record(|v| &mut v.undercut, example);
        }
    }
    let (applied_seen, applied_list) = (applied(&reader.seen), applied(list));
    if applied_seen != applied_list {
        let example = || {
            let first = applied_seen.iter().zip(&applied_list).position(|(seen, there)| seen != there);
            let (seen, there) = (reader.seen.len(), list.len());
            format!(
                "{} has {seen} of {there} messages of {}; first difference at {first:?}",
                reader.user, reader.conversation
            )
        };
        verdict.record(|v| &mut v.different, example);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::{Assignment, Pace, Report, Sent};

    fn sender() -> Sender {
        let assignment =
            Assignment { conversation: "group_1".into(), messages: 3, size: 10, pace: Pace::Window(1) };
        let mut sender =
            Sender::new("alice".into(), assignment, Vec::new(), Arc::new(Report::default())).unwrap();
        for (n, sent) in sender.sent.iter_mut().enumerate() {
            *sent = Sent { acked: Some(n as u64 + 1), ..Sent::default() };
        }
        sender
    }

    fn list(sender: &Sender) -> Vec<StoredMessage> {
        let message = |n| StoredMessage {
            msg_id: sender.msg_id(n),
            seq: n as u64 + 1,
            sender_id: sender.user.clone(),
            content: sender.content(n),
            ..StoredMessage::default()
        };
        (0..3).map(message).collect()
    }

    fn verdict(change: impl FnOnce(&mut Sender, &mut Vec<StoredMessage>)) -> Verdict {
        let mut sender = sender();
        let mut list = list(&sender);
        change(&mut sender, &mut list);
        let mut verdict = Verdict::default();
        verdict.renumbered = judge_list(&[&sender], &list, &mut verdict).len();
        verdict
    }

    #[test]
    fn each_kind_of_violation_is_counted() {
        assert!(verdict(|_, _| {}).is_good());
        assert_eq!(verdict(|_, _| {}).acked, 3);
        assert_eq!(verdict(|_, list| drop(list.remove(1))).lost, 1);
        assert_eq!(verdict(|_, list| list[1].content.push('!')).altered, 1);
        assert_eq!(verdict(|_, list| list[1].sender_id = "bob".into()).foreign, 1);
        assert_eq!(verdict(|_, list| list[1].msg_id = "alice-7".into()).foreign, 1);
        let joined = verdict(|_, list| {
            list.push(StoredMessage {
                seq: 4,
                sender_id: "alice".into(),
                msg_type: SYSTEM,
                ..StoredMessage::default()
            });
        });
        assert!(joined.is_good(), "{joined}");
        assert_eq!(verdict(|_, list| list[2].seq = 9).renumbered, 1, "a retry decides");
        assert_eq!(verdict(|_, list| list.swap(0, 1)).unordered, 1);
        let doubled = verdict(|_, list| {
            let mut again = list[0].clone();
            again.seq = 4;
            list.push(again);
        });
        assert_eq!(doubled.doubled, 1);
        let reordered = verdict(|sender, list| {
            list.swap(0, 1);
            (list[0].seq, list[1].seq) = (1, 2);
            (sender.sent[0].acked, sender.sent[1].acked) = (Some(2), Some(1));
        });
        assert_eq!((reordered.reordered, reordered.is_good()), (1, false));
    }

    #[test]
    fn a_renumbered_message_may_have_a_later_place() {
        let verdict = verdict(|_, list| {
            let mut first = list.remove(0);
            first.seq = 9;
            list.push(first);
        });
        assert_eq!((verdict.renumbered, verdict.reordered), (1, 0));
    }

    #[test]
    fn an_unacknowledged_message_may_be_missing() {
        assert!(
            verdict(|sender, list| {
                sender.sent[2].acked = None;
                list.pop();
            })
            .is_good()
        );
    }

    #[test]
    fn a_follower_must_have_the_whole_list_and_all_messages_below_its_cursors() {
        let list = list(&sender());
        let judged = |change: fn(&mut Reader)| {
            let mut reader = Reader::new("bob".into(), "group_1".into(), Vec::new());
            reader.seen = list.clone();
            reader.cursors = vec![(0, 0), (2, 2), (3, 3)];
            change(&mut reader);
            let mut verdict = Verdict::default();
            judge_follower(&reader, &list, &mut verdict);
            verdict
        };
        assert!(judged(|_| {}).is_good());
        assert_eq!(judged(|reader| reader.cursors[1].1 = 1).undercut, 1);
        assert_eq!(judged(|reader| drop(reader.seen.pop())).different, 1);
        assert_eq!(judged(|reader| reader.seen[0].content.push('!')).different, 1);
        assert_eq!(judged(|reader| reader.complaints.push("!".into())).undercut, 1);
    }

    #[test]
    fn the_pages_of_a_reader_must_be_the_beginning_of_the_final_list() {
        let list = list(&sender());
        let judged = |seen: &[StoredMessage]| {
            let mut verdict = Verdict::default();
            judge_reader(seen, &list, &mut verdict);
            verdict
        };
        assert!(judged(&list[..2]).is_good());
        assert!(judged(&[]).is_good());
        assert_eq!(judged(&[list[0].clone(), list[2].clone()]).undercut, 1);
        assert_eq!(judged(&[list[0].clone(), list[1].clone(), list[1].clone()]).lost, 1);
    }
}
