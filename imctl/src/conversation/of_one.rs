//! Reads one conversation for its verification, in steps of bounded size and in an order in which a conversation that is
//! written to meanwhile causes no finding: what must not be above `last_seq` is read before it, what must not be below
//! after it.

use shared::conversation::{Conversation, Kind};
use shared::ids::{Seq, UserId};
use shared::mysql::inspection::ConversationRow;
use shared::mysql::{Pool, inspection, members};
use shared::redis::inbox::Inboxes;
use shared::redis::inspection::Inspection;

use super::findings::{self, Report, Walk};

/// Rows of one step.
const STEP_ROWS: u32 = 10_000;
/// Members whose inboxes are read in one step.
const STEP_MEMBERS: u32 = 500;
/// Faults of one kind that are listed for one conversation.
const LISTED_MAX: u32 = 1_000;

/// The stores of a verification.
#[derive(Debug, Clone)]
pub(super) struct Stores {
    pub(super) pool: Pool,
    pub(super) inspection: Inspection,
    pub(super) inboxes: Inboxes,
}

impl Stores {
    /// Verifies the conversation with this row.
    pub(super) async fn verify(&self, row: &ConversationRow, report: &mut Report) -> anyhow::Result<()> {
        report.conversations += 1;
        let (key, head) = (row.key.as_str(), row.last_seq);
        let conversation = match Conversation::from_key(key) {
            Ok(conversation) => conversation,
            Err(error) => {
                report.find("invalid_key", key, format!("its key is not one of a conversation: {error}"));
                return Ok(());
            }
        };
        let kind = if conversation.kind() == Kind::Group { 2 } else { 1 };
        if row.kind != kind {
            report.find(
                "wrong_kind",
                key,
                format!("its row has kind {}, and its key is of kind {kind}", row.kind),
            );
        }
        findings::counter(key, head, &self.inspection.counter(&conversation).await?, report);
        let mut walk = Walk::new(head);
        let mut after = Seq::ZERO;
        loop {
            let seqs = inspection::seqs_after(&self.pool, key, after, STEP_ROWS).await?;
            let goes_on = walk.step(key, &seqs, report);
            let Some(last) = seqs.last().filter(|_| goes_on) else { break };
            after = *last;
        }
        let duplicates = inspection::duplicate_ids(&self.pool, key, LISTED_MAX).await?;
        findings::duplicates(key, &duplicates, report);
        let readers = self.readers_above(&conversation, head).await?;
        let inboxes = self.inboxes_above(&conversation, head).await?;
        let now = inspection::conversation(&self.pool, &conversation).await?;
        let head_now = now.map_or(Seq::ZERO, |row| row.last_seq);
        walk.end(key, head_now, report);
        findings::above_head(("position_above_head", "the read position"), key, &readers, head_now, report);
        findings::above_head(("inbox_above_head", "the inbox"), key, &inboxes, head_now, report);
        match conversation.kind() {
            Kind::Private(a, b) => self.private(key, head, &[a, b], report).await,
            Kind::Group => {
                findings::group(key, inspection::group_counts(&self.pool, key).await?, head, report);
                Ok(())
            }
        }
    }

    async fn private(
        &self,
        key: &str,
        head: Seq,
        users: &[&str; 2],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        if head == Seq::ZERO {
            return Ok(());
        }
        let listed = inspection::listed_for(&self.pool, key, users).await?;
        let missing = users.iter().filter(|user| !listed.iter().any(|listed| listed == *user));
        for user in missing {
            report.find(
                "not_listed",
                key,
                format!("it has messages, and is not in the list of {user} (private_chat)"),
            );
        }
        Ok(())
    }

    /// The members whose read position is above `head`.
    async fn readers_above(
        &self,
        conversation: &Conversation,
        head: Seq,
    ) -> anyhow::Result<Vec<(String, Seq)>> {
        Ok(match conversation.kind() {
            Kind::Private(a, b) => {
                let users = users(a, b);
                inspection::readers_among(&self.pool, conversation, &users, head.next()).await?
            }
            Kind::Group => {
                inspection::group_readers(&self.pool, conversation, head.next(), LISTED_MAX).await?
            }
        })
    }

    /// The inboxes, and the group head, whose entry is above `head`.
    async fn inboxes_above(
        &self,
        conversation: &Conversation,
        head: Seq,
    ) -> anyhow::Result<Vec<(String, Seq)>> {
        let mut above = Vec::new();
        if let Kind::Private(a, b) = conversation.kind() {
            self.entries_above(conversation, &users(a, b), head, &mut above).await?;
            return Ok(above);
        }
        let group_head = self.inboxes.group_heads(std::slice::from_ref(conversation)).await?;
        let group_head = group_head.into_iter().flatten().map(|(_, seq)| seq).next();
        above.extend(
            group_head.filter(|seq| *seq > head).map(|seq| ("all members (group head)".to_owned(), seq)),
        );
        let mut cursor = String::new();
        loop {
            let listed = members::list(&self.pool, conversation, &cursor, STEP_MEMBERS).await?;
            let Some(last) = listed.last() else { return Ok(above) };
            cursor.clone_from(&last.user_id);
            let users: Vec<UserId> =
                listed.iter().filter_map(|member| UserId::parse(&member.user_id).ok()).collect();
            self.entries_above(conversation, &users, head, &mut above).await?;
        }
    }

    async fn entries_above(
        &self,
        conversation: &Conversation,
        users: &[UserId],
        head: Seq,
        above: &mut Vec<(String, Seq)>,
    ) -> anyhow::Result<()> {
        let seqs = self.inspection.inbox_seqs(conversation, users).await?;
        let entries = users.iter().zip(seqs).filter_map(|(user, seq)| Some((user, seq?)));
        let found = entries.filter(|(_, seq)| *seq > head).map(|(user, seq)| (user.as_str().to_owned(), seq));
        above.extend(found.take(LISTED_MAX as usize));
        Ok(())
    }
}

/// The users of a private conversation; one for notes to itself.
fn users(a: &str, b: &str) -> Vec<UserId> {
    let mut users: Vec<UserId> = [a, b].map(UserId::parse).into_iter().flatten().collect();
    users.dedup();
    users
}
