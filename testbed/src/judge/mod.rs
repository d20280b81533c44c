//! Whether the promises were kept: everything is pulled again through the public protocol and compared with what was
//! acknowledged.

use std::collections::HashMap;
use std::fmt;

use anyhow::Context as _;

use crate::client::{Chat, Client, Reader, Sender, StoredMessage};

/// What went wrong, by promise. All zero: nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// Acknowledged messages that were looked for.
    pub acked: usize,
    /// Acknowledged, but not there.
    pub lost: usize,
    /// There more than once.
    pub doubled: usize,
    /// There under another number than a retry is told.
    pub misnumbered: usize,
    /// There under another number than the first acknowledged, and a retry says so: allowed in repairs.
    pub renumbered: usize,
    /// With another content.
    pub altered: usize,
    /// Sent by nobody.
    pub foreign: usize,
    /// Numbers that do not rise strictly within a list.
    pub unordered: usize,
    /// A sender's own messages in another order than they were sent.
    pub reordered: usize,
    /// Gateways whose list differs from the first one's.
    pub different: usize,
    /// Messages that appeared at or below a cursor that had been handed out.
    pub undercut: usize,
    /// One example of each kind.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let Self {
            lost,
            doubled,
            misnumbered,
            altered,
            foreign,
            unordered,
            reordered,
            different,
            undercut,
            ..
        } = self;
        lost + doubled + misnumbered + altered + foreign + unordered + reordered + different + undercut == 0
    }

    fn note(&mut self, count: impl Fn(&mut Self) -> &mut usize, example: impl FnOnce() -> String) {
        let count = count(self);
        *count += 1;
        if *count == 1 {
            self.examples.push(example());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} acked, {} renumbered, lost {}, doubled {}, misnumbered {}, altered {}, foreign {}, unordered {}, reordered {}, \
             different {}, undercut {}",
            if self.is_good() { "kept" } else { "BROKEN" },
            self.acked,
            self.renumbered,
            self.lost,
            self.doubled,
            self.misnumbered,
            self.altered,
            self.foreign,
            self.unordered,
            self.reordered,
            self.different,
            self.undercut
        )?;
        self.examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}

/// A message that is there under another number than its sender was last told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renumbered {
    sender: usize,
    n: usize,
    acked: u64,
    seq: u64,
}

/// Judges one conversation: what its senders know against the list that a pull gives. Returns the messages whose
/// senders may have missed a corrected reply: a retry must tell them.
#[must_use]
pub fn judge_list(senders: &[&Sender], list: &[StoredMessage], verdict: &mut Verdict) -> Vec<Renumbered> {
    let mut renumbered = Vec::new();
    for pair in list.windows(2) {
        if pair[0].seq >= pair[1].seq {
            verdict.note(|v| &mut v.unordered, || format!("{} after {}", pair[1].seq, pair[0].seq));
        }
    }
    let of: HashMap<&str, usize> =
        senders.iter().enumerate().map(|(at, sender)| (sender.user.as_str(), at)).collect();
    // Per sender and message: where it is in the list.
    let mut places: Vec<Vec<Option<u64>>> =
        senders.iter().map(|sender| vec![None; sender.sent.len()]).collect();
    for message in list {
        let at = of.get(message.sender_id.as_str()).copied();
        let n = message.msg_id.rsplit_once('-').and_then(|(_, n)| n.parse::<usize>().ok());
        let known = at
            .zip(n)
            .filter(|(at, n)| senders[*at].msg_id(*n) == message.msg_id && *n < senders[*at].sent.len());
        let Some((at, n)) = known else {
            verdict.note(|v| &mut v.foreign, || format!("foreign: {message:?}"));
            continue;
        };
        if message.content != senders[at].content(n) {
            verdict.note(|v| &mut v.altered, || format!("altered: {message:?}"));
        }
        if places[at][n].replace(message.seq).is_some() {
            verdict
                .note(|v| &mut v.doubled, || format!("doubled: {} of {}", message.msg_id, message.sender_id));
        }
    }
    for (at, places) in places.iter().enumerate() {
        let sender = senders[at];
        let mut last = 0;
        for (n, (sent, place)) in sender.sent.iter().zip(places).enumerate() {
            if let Some(acked) = sent.acked {
                verdict.acked += 1;
                match place {
                    None => verdict
                        .note(|v| &mut v.lost, || format!("lost: {} with seq {acked}", sender.msg_id(n))),
                    Some(seq) if *seq != acked => {
                        renumbered.push(Renumbered { sender: at, n, acked, seq: *seq })
                    }
                    Some(_) => {}
                }
            }
            // Those that were refused and repeated, or renumbered in a repair (of which the sender may not have heard
            // yet), may take their place later.
            if let Some(seq) = place
                && !sent.repeated
                && sent.acked.is_none_or(|acked| acked == *seq)
            {
                if *seq < last {
                    verdict.note(
                        |v| &mut v.reordered,
                        || format!("reordered: {} at {seq} after {last}", sender.msg_id(n)),
                    );
                }
                last = last.max(*seq);
            }
        }
    }
    renumbered
}

/// Sends the message again: the answer must be the number under which it is stored.
async fn judge_retry(
    gateway: &str,
    sender: &Sender,
    found: &Renumbered,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let Renumbered { n, acked, seq, .. } = *found;
    let mut client = Client::connect(gateway, &sender.user).await?;
    let chat = Chat {
        conversation: sender.conversation.clone(),
        msg_id: sender.msg_id(n),
        content: sender.content(n),
        stored: true,
    };
    let told = client.chat(&chat).await?.seq;
    if told == Some(seq) {
        verdict.renumbered += 1;
    } else {
        let example =
            || format!("misnumbered: {} acked as {acked} is {seq}, a retry says {told:?}", chat.msg_id);
        verdict.note(|v| &mut v.misnumbered, example);
    }
    Ok(())
}

/// Judges what a reader saw while it went on: page after page, each from the cursor of the one before, its list must be
/// the beginning of the final one.
pub fn judge_reader(seen: &[StoredMessage], list: &[StoredMessage], verdict: &mut Verdict) {
    let last = seen.last().map_or(0, |message| message.seq);
    let settled: Vec<_> = list.iter().take_while(|message| message.seq <= last).collect();
    let missing =
        settled.iter().filter(|message| seen.binary_search_by_key(&message.seq, |m| m.seq).is_err());
    for message in missing {
        verdict
            .note(|v| &mut v.undercut, || format!("undercut: {} came below the cursor {last}", message.seq));
    }
    if seen.len() > settled.len() {
        verdict.note(|v| &mut v.lost, || "a reader saw messages that are not there any more".to_owned());
    }
}

/// Judges one who followed the conversation to its end: each cursor that it was handed must have had everything below it
/// seen, and in the end it has the list that everyone has.
pub fn judge_follower(reader: &Reader, list: &[StoredMessage], verdict: &mut Verdict) {
    for complaint in &reader.complaints {
        verdict.note(|v| &mut v.undercut, || complaint.clone());
    }
    for (cursor, seen) in &reader.cursors {
        let below = list.partition_point(|message| message.seq <= *cursor);
        if below != *seen {
            let example = || {
                format!(
                    "{} had seen {seen} messages at the cursor {cursor}, and {below} are there",
                    reader.user
                )
            };
            verdict.note(|v| &mut v.undercut, example);
        }
    }
    if reader.seen != list {
        let example = || {
            let first = reader.seen.iter().zip(list).position(|(seen, there)| seen != there);
            let (seen, there) = (reader.seen.len(), list.len());
            format!(
                "{} has seen {seen} of {there} messages of {}; first difference at {first:?}",
                reader.user, reader.conversation
            )
        };
        verdict.note(|v| &mut v.different, example);
    }
}

/// The final list of each conversation.
pub type Lists = HashMap<String, Vec<StoredMessage>>;

/// Pulls every conversation through every gateway and judges it all.
///
/// # Errors
/// If something cannot be pulled at all.
pub async fn judge(gateways: &[String], senders: &[Sender]) -> anyhow::Result<Verdict> {
    Ok(judge_and_keep(gateways, senders).await?.0)
}

/// As [`judge`], and gives the lists, to judge readers by.
///
/// # Errors
/// As [`judge`].
pub async fn judge_and_keep(gateways: &[String], senders: &[Sender]) -> anyhow::Result<(Verdict, Lists)> {
    let (mut verdict, mut lists) = (Verdict::default(), Lists::new());
    let mut of: HashMap<&str, Vec<&Sender>> = HashMap::new();
    for sender in senders {
        of.entry(&sender.conversation).or_default().push(sender);
    }
    for (conversation, senders) in of {
        let mut first: Option<Vec<StoredMessage>> = None;
        for gateway in gateways {
            let mut reader = Client::connect(gateway, &senders[0].user).await?;
            let list =
                reader.pull_all(conversation, 0).await.with_context(|| format!("judging {conversation}"))?;
            match &first {
                None => {
                    for found in judge_list(&senders, &list, &mut verdict) {
                        judge_retry(gateway, senders[found.sender], &found, &mut verdict).await?;
                    }
                }
                Some(first) if *first != list => {
                    verdict
                        .note(|v| &mut v.different, || format!("{gateway} tells {conversation} differently"));
                }
                Some(_) => {}
            }
            first.get_or_insert(list);
        }
        lists.insert(conversation.to_owned(), first.unwrap_or_default());
    }
    Ok((verdict, lists))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::{Pace, Report, Sent};

    fn sender() -> Sender {
        let pace = Pace::Window(1);
        let mut sender = Sender::new(
            "alice".into(),
            "group_1".into(),
            3,
            10,
            Vec::new(),
            pace,
            Arc::new(Report::default()),
        )
        .unwrap();
        for (n, sent) in sender.sent.iter_mut().enumerate() {
            *sent = Sent { acked: Some(n as u64 + 1), repeated: false };
        }
        sender
    }

    fn list(sender: &Sender) -> Vec<StoredMessage> {
        let message = |n| StoredMessage {
            msg_id: sender.msg_id(n),
            seq: n as u64 + 1,
            sender_id: sender.user.clone(),
            content: sender.content(n),
            msg_type: 1,
            send_time: 0,
            recalled: false,
            recall_seq: None,
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
    fn a_right_list_is_good_and_every_wrong_one_is_named() {
        assert!(verdict(|_, _| {}).is_good());
        assert_eq!(verdict(|_, _| {}).acked, 3);
        assert_eq!(verdict(|_, list| drop(list.remove(1))).lost, 1);
        assert_eq!(verdict(|_, list| list[1].content.push('!')).altered, 1);
        assert_eq!(verdict(|_, list| list[1].sender_id = "bob".into()).foreign, 1);
        assert_eq!(verdict(|_, list| list[1].msg_id = "alice-7".into()).foreign, 1);
        assert_eq!(verdict(|_, list| list[2].seq = 9).renumbered, 1, "to be asked for by a retry");
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
    fn what_was_renumbered_may_take_a_later_place() {
        let verdict = verdict(|_, list| {
            let mut first = list.remove(0);
            first.seq = 9;
            list.push(first);
        });
        assert_eq!((verdict.renumbered, verdict.reordered), (1, 0));
    }

    #[test]
    fn what_was_never_acked_may_be_missing() {
        assert!(
            verdict(|sender, list| {
                sender.sent[2].acked = None;
                list.pop();
            })
            .is_good()
        );
    }

    #[test]
    fn a_follower_must_have_the_whole_list_and_nothing_below_its_cursors() {
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
    fn a_reader_must_have_seen_the_beginning_of_the_final_list() {
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
