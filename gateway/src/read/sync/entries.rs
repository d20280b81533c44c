//! What the client sees of each conversation of a page: unread count, read position, last message.

use std::sync::Arc;

use futures_util::future::try_join_all;
use shared::conversation::{Conversation, Kind};
use shared::ids::{Seq, UserId};
use shared::mysql::views::{self, View, ViewSettings};
use shared::mysql::{Pool, changes};
use shared::permission::HistoryRange;
use shared::redis::inbox::Entry;
use tokio::sync::Semaphore;

use super::super::tail_cache::{Summary, TailCache};
use crate::membership::Memberships;
use crate::wire::api_error::ApiError;
use crate::wire::listing::{Listed, UnreadMentions};
use crate::wire::message::MessageView;

/// Contents of the last messages of one page, in bytes of JSON. The page ends before the entry that would exceed this,
/// but has at least one.
const PAGE_BYTES_MAX: usize = 512 * 1024;

/// Entries that are looked up at the same time: a page must not take all connections to MySQL.
const AT_ONCE: usize = 4;

/// The entries of a page, and the version of the last one if not all fit.
type Fitting = (Vec<Listed>, Option<u64>);

/// Looks up what belongs to the entries of a page.
#[derive(Debug)]
pub(super) struct Entries {
    pool: Pool,
    memberships: Arc<Memberships>,
    tails: Arc<TailCache>,
}

/// What a user sees of one conversation.
#[derive(Debug, Clone)]
enum Details {
    /// The user is not in this group any more.
    NotAMember,
    Member(Box<MemberDetails>),
}

#[derive(Debug, Clone)]
struct MemberDetails {
    floor: Seq,
    view: View,
    summary: Summary,
    mentions: Option<UnreadMentions>,
}

impl Entries {
    pub(super) fn new(pool: Pool, memberships: Arc<Memberships>, tails: Arc<TailCache>) -> Self {
        Self { pool, memberships, tails }
    }

    /// The view of `user` on `entries`. `is_complete_list`: the client has no earlier list, so that it need not be told
    /// about groups that it left. Returns the most messages that MySQL counted for it, too.
    pub(super) async fn of(
        &self,
        user: &UserId,
        entries: Vec<Entry>,
        is_complete_list: bool,
    ) -> Result<(Fitting, u64), ApiError> {
        let all: Vec<&Conversation> = entries.iter().map(|entry| &entry.conversation).collect();
        let groups: Vec<&Conversation> = all.iter().copied().filter(|c| c.kind() == Kind::Group).collect();
        let views = views::of_user(&self.pool, user, &all);
        let (mut views, histories) = futures_util::try_join!(views, self.memberships.accesses(user, &groups))
            .map_err(|e| ApiError::database(&e))?;
        let permits = &Semaphore::new(AT_ONCE);
        let details = entries.iter().map(|entry| {
            let view = views.remove(&entry.conversation).unwrap_or_default();
            let history = histories.get(&entry.conversation).copied();
            async move {
                // The semaphore is never closed.
                let _permit = permits.acquire().await.ok();
                self.details(user, entry, history, view).await
            }
        });
        let details = try_join_all(details).await.map_err(|e| ApiError::database(&e))?;
        let counted = details.iter().map(Details::counted).sum();
        Ok((fitting(entries.into_iter().zip(details), is_complete_list, PAGE_BYTES_MAX), counted))
    }

    async fn details(
        &self,
        user: &UserId,
        entry: &Entry,
        history: Option<HistoryRange>,
        view: View,
    ) -> Result<Details, shared::mysql::Error> {
        if history.is_none() && entry.conversation.kind() == Kind::Group {
            return Ok(Details::NotAMember);
        }
        let HistoryRange { join_seq, floor } = history.unwrap_or_default();
        let floor = floor.max(view.cleared.unwrap_or(Seq::ZERO));
        let counted_from = view.last_ack_seq.max(HistoryRange { join_seq, floor }.counted_from());
        let summary = self.tails.summary(&entry.conversation, entry.last_seq, user, counted_from).await?;
        let mentions = if summary.may_mention {
            changes::mentions_above(&self.pool, &entry.conversation, user, counted_from).await?
        } else {
            None
        };
        let mentions = mentions.map(|(count, first)| UnreadMentions { count, first });
        Ok(Details::Member(Box::new(MemberDetails { floor, view, summary, mentions })))
    }
}

impl Details {
    fn counted(&self) -> u64 {
        match self {
            Self::NotAMember => 0,
            Self::Member(member) => member.summary.counted,
        }
    }
}

/// As many entries as fit on a page. It ends only between two versions, because the next page begins behind one.
fn fitting(
    entries: impl Iterator<Item = (Entry, Details)>,
    is_complete_list: bool,
    bytes_max: usize,
) -> Fitting {
    let (mut page, mut bytes, mut last) = (Vec::with_capacity(entries.size_hint().0), 0, None);
    for (Entry { conversation, version, .. }, details) in entries {
        if let Details::Member(member) = &details {
            let last_message = member.summary.last_message.as_deref().map(MessageView::from);
            bytes += last_message.map_or(0, |message| message.content_bytes());
        }
        if bytes > bytes_max && last.is_some_and(|last| last != version) {
            return (page, last);
        }
        page.extend(listed(conversation, details, is_complete_list));
        last = Some(version);
    }
    (page, None)
}

fn listed(conversation: Conversation, details: Details, is_complete_list: bool) -> Option<Listed> {
    let MemberDetails { floor, view, summary, mentions } = match details {
        Details::NotAMember if is_complete_list => return None,
        Details::NotAMember => return Some(Listed::Removed(conversation)),
        Details::Member(member) => *member,
    };
    // A private chat without messages does not exist for its users.
    if summary.last_seq == Seq::ZERO && conversation.kind() != Kind::Group {
        return None;
    }
    // A change of a cleared message does not bring the conversation back.
    let newest = summary.last_message.as_ref().map_or(Seq::ZERO, |message| message.seq);
    if view.cleared.is_some_and(|cleared| newest <= cleared) {
        return (!is_complete_list).then_some(Listed::Cleared(conversation));
    }
    let settings = Some(view.settings).filter(|settings| *settings != ViewSettings::default());
    Some(Listed::Conversation {
        conversation,
        last_seq: summary.last_seq,
        last_ack_seq: view.last_ack_seq,
        unread: summary.unread,
        mentions,
        settings: settings.map(Box::new),
        last_message: summary.last_message.filter(|message| message.seq > floor),
    })
}

#[cfg(test)]
mod tests {
    use shared::message::{Stored, fixture};

    use super::*;

    fn entry(key: &str, version: u64) -> Entry {
        Entry { conversation: Conversation::from_key(key).unwrap(), version, last_seq: Seq(1) }
    }

    fn member(last_seq: u64, floor: u64, content_bytes: usize) -> Details {
        let numbered = fixture::numbered("group_1", last_seq, "bob", "m");
        let numbered = fixture::with_kind(numbered, fixture::text(&"x".repeat(content_bytes.max(1))));
        let message = Stored::new(numbered.message, Seq(last_seq));
        let last_message = (last_seq > 0).then(|| Arc::new(message));
        let last_seq = Seq(last_seq);
        let summary = Summary { last_seq, last_message, unread: 3, may_mention: false, counted: 0 };
        let view = View { last_ack_seq: Seq(2), ..View::default() };
        Details::Member(Box::new(MemberDetails { floor: Seq(floor), view, summary, mentions: None }))
    }

    /// Cleared up to `cleared`, with its newest message at 7 and changes of messages up to 9.
    fn cleared(cleared: u64, floor: u64) -> Details {
        let Details::Member(mut details) = member(7, floor.max(cleared), 1) else { unreachable!() };
        details.summary.last_seq = Seq(9);
        details.view.cleared = Some(Seq(cleared));
        Details::Member(details)
    }

    fn names(page: &[Listed]) -> Vec<String> {
        page.iter()
            .map(|listed| match listed {
                Listed::Removed(conversation) => format!("removed {}", conversation.key()),
                Listed::Cleared(conversation) => format!("cleared {}", conversation.key()),
                Listed::Conversation { conversation, last_message, .. } => {
                    format!("{} {}", conversation.key(), last_message.is_some())
                }
            })
            .collect()
    }

    #[test]
    fn left_groups_are_removed_entries_of_a_sync_and_absent_from_a_complete_list() {
        let entries = || {
            [
                (entry("group_left", 1), Details::NotAMember),
                (entry("group_new", 2), member(0, 0, 0)),
                (entry("private_a b", 3), member(0, 0, 0)),
                (entry("group_hidden", 4), member(7, 7, 1)),
                (entry("private_a c", 5), member(7, 0, 1)),
            ]
            .into_iter()
        };
        let (page, cut_at) = fitting(entries(), false, PAGE_BYTES_MAX);
        let expected = ["removed group_left", "group_new false", "group_hidden false", "private_a c true"];
        assert_eq!((names(&page), cut_at), (expected.map(String::from).to_vec(), None));
        let (page, cut_at) = fitting(entries(), true, PAGE_BYTES_MAX);
        assert_eq!((names(&page), cut_at), (expected[1..].iter().map(|&s| s.to_owned()).collect(), None));
    }

    #[test]
    fn a_cleared_conversation_is_told_once_and_comes_back_with_a_newer_message() {
        let entries = || {
            [
                (entry("group_cleared", 1), cleared(7, 0)),
                (entry("group_changed", 2), cleared(8, 0)),
                (entry("group_newer", 3), cleared(6, 0)),
                (entry("group_joined_again", 4), cleared(6, 9)),
                (entry("private_a b", 5), cleared(9, 0)),
            ]
            .into_iter()
        };
        let (page, _) = fitting(entries(), false, PAGE_BYTES_MAX);
        let newer = ["group_newer true", "group_joined_again false"];
        let expected =
            ["cleared group_cleared", "cleared group_changed", newer[0], newer[1], "cleared private_a b"];
        assert_eq!(names(&page), expected);
        let (page, _) = fitting(entries(), true, PAGE_BYTES_MAX);
        assert_eq!(names(&page), newer, "a complete list does not have them");
    }

    #[test]
    fn a_page_ends_between_two_versions_before_its_bytes_exceed_the_limit() {
        let page = |sizes: [(u64, usize); 4]| {
            let entries = sizes.map(|(version, bytes)| (entry("group_1", version), member(7, 0, bytes)));
            let (page, cut_at) = fitting(entries.into_iter(), false, 100);
            (page.len(), cut_at)
        };
        assert_eq!(page([(1, 50), (2, 50), (3, 1), (4, 1)]), (2, Some(2)));
        assert_eq!(page([(1, 50), (2, 48), (3, 1), (4, 1)]), (4, None));
        assert_eq!(page([(1, 200), (2, 1), (3, 1), (4, 1)]), (1, Some(1)), "at least one");
        assert_eq!(page([(1, 50), (2, 50), (2, 50), (4, 1)]), (3, Some(2)), "one version stays together");
    }
}
