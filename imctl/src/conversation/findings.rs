//! What is wrong with the rows and counters of a conversation. Pure.

use serde::Serialize;
use shared::ids::Seq;
use shared::mysql::inspection::{DuplicateId, GroupCounts};
use shared::redis::inspection::Counter;

/// Most findings, and most gaps, that are kept; all are counted.
const KEPT_MAX: usize = 10_000;

/// A fault of the stored data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Stable name of the kind.
    pub(crate) code: &'static str,
    /// The conversation key.
    pub(crate) conversation: String,
    pub(crate) message: String,
}

/// Sequence numbers without a message. They were voided, or skipped by a jump; no table records which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Gap {
    pub(crate) conversation: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// What `imctl conversation verify --json` prints.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) conversations: u64,
    pub(crate) messages: u64,
    /// Inboxes that were looked at for entries of unknown conversations.
    pub(crate) inboxes: u64,
    /// At most 10,000.
    pub(crate) findings: Vec<Finding>,
    pub(crate) findings_total: u64,
    /// At most 10,000.
    pub(crate) gaps: Vec<Gap>,
    pub(crate) gaps_total: u64,
    /// Conversations with messages and without a counter in Redis: it is set from MySQL with the next message.
    pub(crate) counters_missing: u64,
}

impl Report {
    pub(crate) fn find(&mut self, code: &'static str, conversation: &str, message: String) {
        self.findings_total += 1;
        if self.findings.len() < KEPT_MAX {
            self.findings.push(Finding { code, conversation: conversation.to_owned(), message });
        }
    }

    fn gap(&mut self, conversation: &str, first: u64, last: u64) {
        self.gaps_total += 1;
        if self.gaps.len() < KEPT_MAX {
            self.gaps.push(Gap { conversation: conversation.to_owned(), first, last });
        }
    }
}

/// The rows of one conversation, in ascending order.
#[derive(Debug)]
pub(crate) struct Walk {
    /// `last_seq` before the first row was read.
    head: Seq,
    /// The highest row at or below it.
    last: Seq,
    /// The first row above it.
    pub(crate) above: Option<Seq>,
}

impl Walk {
    /// Of a conversation whose `last_seq` is `head` now.
    pub(crate) fn new(head: Seq) -> Self {
        Self { head, last: Seq::ZERO, above: None }
    }

    /// The next rows. Returns whether further ones are of interest.
    pub(crate) fn step(&mut self, key: &str, seqs: &[Seq], report: &mut Report) -> bool {
        for seq in seqs {
            if *seq > self.head {
                self.above = Some(*seq);
                return false;
            }
            report.messages += 1;
            if seq.0 > self.last.0 + 1 {
                report.gap(key, self.last.0 + 1, seq.0 - 1);
            }
            self.last = *seq;
        }
        true
    }

    /// After the last row. `head_now` was read after it.
    pub(crate) fn end(&self, key: &str, head_now: Seq, report: &mut Report) {
        if self.last < self.head {
            let message = format!(
                "last_seq is {}, and the last message is {}: messages are missing",
                self.head, self.last
            );
            report.find("messages_missing", key, message);
        }
        // The transaction that inserts a row moves last_seq: one that was committed meanwhile is fine.
        if let Some(above) = self.above.filter(|above| *above > head_now) {
            report.find(
                "message_above_head",
                key,
                format!("message {above} is above last_seq, which is {head_now}"),
            );
        }
    }
}

/// Compares the counter, which was read after `head`.
pub(crate) fn counter(key: &str, head: Seq, counter: &Counter, report: &mut Report) {
    match counter {
        Counter::Missing => report.counters_missing += u64::from(head > Seq::ZERO),
        Counter::Unusable(value) => {
            let message = format!("the counter in Redis is {value:?}, which no message can have");
            report.find("counter_unusable", key, message);
        }
        Counter::At(at) if *at < head => {
            let message = format!(
                "the counter in Redis is {at}, below last_seq, which is {head}: the next messages are renumbered"
            );
            report.find("counter_below_head", key, message);
        }
        Counter::At(_) => {}
    }
}

/// Message ids with several rows.
pub(crate) fn duplicates(key: &str, duplicates: &[DuplicateId], report: &mut Report) {
    for DuplicateId { sender_id, msg_id, seqs: (first, last), rows } in duplicates {
        let message =
            format!("msg_id {msg_id} of {sender_id} is stored {rows} times, from {first} to {last}");
        report.find("duplicate_id", key, message);
    }
}

/// Positions, of readers or inboxes, that were read before `head_now`.
pub(crate) fn above_head(
    (code, what): (&'static str, &str),
    key: &str,
    positions: &[(String, Seq)],
    head_now: Seq,
    report: &mut Report,
) {
    for (user, seq) in positions.iter().filter(|(_, seq)| *seq > head_now) {
        report.find(code, key, format!("{what} of {user} is {seq}, above last_seq, which is {head_now}"));
    }
}

/// The members of a group.
pub(crate) fn group(key: &str, counts: GroupCounts, head: Seq, report: &mut Report) {
    let GroupCounts { counted, members, owners } = counts;
    match counted {
        None if members > 0 || head > Seq::ZERO => {
            report.find(
                "no_group",
                key,
                format!("it has {members} members and messages up to {head}, and no row in chat_group"),
            );
        }
        Some(counted) if i64::from(counted) != members => {
            report.find(
                "member_count",
                key,
                format!("chat_group counts {counted} members, and there are {members}"),
            );
        }
        _ => {}
    }
    if owners > 1 {
        report.find("several_owners", key, format!("it has {owners} owners"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walked(head: u64, seqs: &[u64], head_now: u64) -> (Vec<&'static str>, Vec<(u64, u64)>) {
        let mut report = Report::default();
        let mut walk = Walk::new(Seq(head));
        for chunk in seqs.chunks(2) {
            let seqs: Vec<Seq> = chunk.iter().copied().map(Seq).collect();
            if !walk.step("group_1", &seqs, &mut report) {
                break;
            }
        }
        walk.end("group_1", Seq(head_now), &mut report);
        let codes = report.findings.iter().map(|finding| finding.code).collect();
        (codes, report.gaps.iter().map(|gap| (gap.first, gap.last)).collect())
    }

    #[test]
    fn missing_messages_and_messages_above_the_head_are_found_and_gaps_are_no_fault() {
        assert_eq!(walked(3, &[1, 2, 3], 3), (vec![], vec![]));
        assert_eq!(walked(7, &[2, 3, 7], 7), (vec![], vec![(1, 1), (4, 6)]));
        assert_eq!(walked(3, &[1, 2], 3), (vec!["messages_missing"], vec![]));
        assert_eq!(walked(2, &[], 2), (vec!["messages_missing"], vec![]));
        assert_eq!(walked(2, &[1, 2, 3], 2), (vec!["message_above_head"], vec![]));
        // Committed while the rows were read.
        assert_eq!(walked(2, &[1, 2, 3], 4), (vec![], vec![]));
        assert_eq!(walked(0, &[], 0), (vec![], vec![]));
    }

    #[test]
    fn a_counter_is_at_least_the_head() {
        let codes = |head, value: Counter| {
            let mut report = Report::default();
            counter("group_1", Seq(head), &value, &mut report);
            (report.findings.first().map(|finding| finding.code), report.counters_missing)
        };
        assert_eq!(codes(5, Counter::At(Seq(5))), (None, 0));
        assert_eq!(codes(5, Counter::At(Seq(4))), (Some("counter_below_head"), 0));
        assert_eq!(codes(5, Counter::Missing), (None, 1));
        assert_eq!(codes(0, Counter::Missing), (None, 0));
        assert_eq!(codes(5, Counter::Unusable("x".to_owned())), (Some("counter_unusable"), 0));
    }

    #[test]
    fn the_members_of_a_group_are_those_that_are_counted() {
        let codes = |counted, members, owners, head| {
            let mut report = Report::default();
            group("group_1", GroupCounts { counted, members, owners }, Seq(head), &mut report);
            report.findings.iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(Some(2), 2, 1, 3), [""; 0]);
        assert_eq!(codes(Some(2), 2, 0, 3), [""; 0]);
        assert_eq!(codes(Some(2), 3, 2, 3), ["member_count", "several_owners"]);
        assert_eq!(codes(None, 0, 0, 3), ["no_group"]);
        assert_eq!(codes(None, 0, 0, 0), [""; 0]);
    }

    proptest! {
        #[test]
        fn rows_and_gaps_cover_all_numbers_up_to_the_head(seqs in proptest::collection::btree_set(1_u64..60, 1..30)) {
            let seqs: Vec<u64> = seqs.into_iter().collect();
            let head = *seqs.last().unwrap();
            let (codes, gaps) = walked(head, &seqs, head);
            prop_assert_eq!(codes, [""; 0]);
            let in_gaps: u64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
            prop_assert_eq!(in_gaps + seqs.len() as u64, head);
        }
    }
}
