//! What a commit adds to the change feed. Pure.

use shared::feed::{Corrected, FeedBody, FeedShards, NewRow, RefusedMessage, SeqRange};
use shared::ids::Seq;

use super::batch::Batch;
use super::pending::Pending;
use super::verdict::{Plan, Verdict};

/// The rows of a commit, each of another shard, rising; one, if the feed has as many shards as there are work queues. `heads`:
/// the last sequence number of each conversation before. None if nothing is stored or refused.
pub(super) fn rows(batch: &Batch, plan: &Plan, heads: &[Seq], shards: FeedShards) -> Vec<NewRow> {
    let mut rows: Vec<NewRow> = Vec::new();
    let mut judged = batch.messages().iter().zip(&plan.verdicts);
    let heads = heads.iter().zip(&plan.heads);
    for ((conversation, group), (before, now)) in batch.conversations().zip(batch.groups()).zip(heads) {
        let shard = shards.of(conversation);
        let at = rows.binary_search_by_key(&shard, |row| row.shard).unwrap_or_else(|at| {
            rows.insert(at, NewRow { shard, body: FeedBody::default() });
            at
        });
        let body = &mut rows[at].body;
        if before != now {
            let conversation = conversation.clone();
            body.ranges.push(SeqRange { conversation, after: *before, last: *now });
        }
        for (pending, verdict) in judged.by_ref().take(group.len()) {
            add(pending, *verdict, body);
        }
    }
    rows.retain(|row| !row.body.is_empty());
    rows
}

fn add(pending: &Pending, verdict: Verdict, body: &mut FeedBody) {
    let message = &pending.message;
    match verdict {
        Verdict::Take | Verdict::Jump { .. } if pending.is_renumbered() => body.corrected.push(Corrected {
            conversation: message.conversation.clone(),
            sender: message.sender.clone(),
            msg_id: message.msg_id.clone(),
            told: message.seq,
            seq: pending.seq,
        }),
        Verdict::Refuse(denied) => body.refused.push(RefusedMessage {
            conversation: message.conversation.clone(),
            sender: message.sender.clone(),
            msg_id: message.msg_id.clone(),
            seq: message.seq,
            code: denied.code(),
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use shared::message::fixture::numbered;
    use shared::permission::Denied;

    use super::*;

    fn pending(conversation: &str, told: u64, seq: u64) -> Pending {
        let message = numbered(conversation, told, "alice", &format!("m{told}"));
        Pending { seq: Seq(seq), ..Pending::new(message, 1, seq, false) }
    }

    #[test]
    fn a_commit_adds_one_row_with_what_it_settled() {
        let batch = Batch::new(vec![
            pending("group_1", 5, 5),
            pending("group_1", 6, 6),
            pending("group_1", 3, 8),
            pending("group_2", 1, 1),
        ]);
        let verdicts = vec![
            Verdict::Take,
            Verdict::Refuse(Denied::Blocked),
            Verdict::Jump { skipped: 1 },
            Verdict::Hold,
        ];
        let plan = Plan { verdicts, heads: vec![Seq(8), Seq(0)], changes: Vec::new() };
        let rows = rows(&batch, &plan, &[Seq(4), Seq(0)], FeedShards::new(1).unwrap());
        assert_eq!(rows.len(), 1);
        let body = &rows[0].body;
        let ranges: Vec<_> = body.ranges.iter().map(|range| (range.after.0, range.last.0)).collect();
        assert_eq!(ranges, [(4, 8)]);
        assert_eq!((body.corrected[0].told, body.corrected[0].seq), (Seq(3), Seq(8)));
        assert_eq!((body.refused[0].seq, body.refused[0].code), (Seq(6), 403));
    }

    #[test]
    fn a_commit_that_settles_nothing_adds_no_row_and_one_of_several_shards_one_for_each() {
        let names: Vec<_> = (0..20).map(|n| format!("group_{n}")).collect();
        let batch = Batch::new(names.iter().map(|name| pending(name, 1, 1)).collect());
        let shards = FeedShards::new(3).unwrap();
        let plan = |verdict, head| Plan {
            verdicts: vec![verdict; names.len()],
            heads: vec![head; names.len()],
            changes: Vec::new(),
        };
        let heads = vec![Seq(0); names.len()];
        assert_eq!(rows(&batch, &plan(Verdict::Known { stored: Seq(1) }, Seq(0)), &heads, shards), []);
        let rows = rows(&batch, &plan(Verdict::Take, Seq(1)), &heads, shards);
        assert_eq!(rows.iter().map(|row| row.shard).collect::<Vec<_>>(), [0, 1, 2]);
        let all: usize = rows.iter().map(|row| row.body.ranges.len()).sum();
        assert_eq!(all, names.len());
    }
}
