//! What one user sees of the feed: the events of its own conversations, as pulls would show them.

use ahash::{AHashMap, AHashSet};

use super::body::{FeedBody, GroupChanged, USERS_MAX};
use super::event::EventKind;
use super::rows::Row;
use crate::conversation::{Conversation, Kind};
use crate::ids::{Seq, UserId};

/// What a member sees of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSight {
    /// The number at or below which it sees no entry, because the group hides its history from before the member joined.
    pub floor: Seq,
    /// When it joined, in milliseconds since 1970.
    pub joined_at: i64,
}

/// A user who reads the feed, and what it may see at the moment.
///
/// The feed itself tells when that changes: a row about a group stands before the messages that were committed after it.
#[derive(Debug)]
pub struct Reader {
    user: UserId,
    groups: AHashMap<Conversation, GroupSight>,
    /// The number up to which it has cleared conversations.
    cleared: AHashMap<Conversation, Seq>,
    /// Groups that it was seen to leave.
    former: AHashSet<Conversation>,
}

impl Reader {
    /// `user`, a member of `groups`, who has cleared conversations up to these numbers.
    #[must_use]
    pub fn new(
        user: UserId,
        groups: AHashMap<Conversation, GroupSight>,
        cleared: AHashMap<Conversation, Seq>,
    ) -> Self {
        Self { user, groups, cleared, former: AHashSet::new() }
    }

    /// The number of groups that it is a member of.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The user as it is known now, read again after it was known as `before`.
    #[must_use]
    pub fn after(mut self, before: Self) -> Self {
        let left = before.groups.into_keys().filter(|group| !self.groups.contains_key(group));
        self.former = left.chain(before.former).collect();
        self
    }

    /// The number at or below which it sees no entry of `conversation`; `None` if it sees nothing of it.
    #[must_use]
    pub fn floor(&self, conversation: &Conversation) -> Option<Seq> {
        let floor = match conversation.kind() {
            Kind::Private(..) => conversation.peer_of(self.user.as_str()).map(|_| Seq::ZERO),
            Kind::Group => self.groups.get(conversation).map(|sight| sight.floor),
        }?;
        let cleared = self.cleared.get(conversation).copied();
        Some(floor.max(cleared.unwrap_or(Seq::ZERO)))
    }

    /// Whether it sees an event that is no entry of a timeline.
    #[must_use]
    pub fn sees(&self, event: &EventKind<'_>, written_at: i64) -> bool {
        match event {
            EventKind::Message(_) | EventKind::Voided { .. } => false,
            EventKind::Corrected(corrected) => corrected.sender == self.user,
            EventKind::Refused(refused) => refused.sender == self.user,
            EventKind::Profile(user) => **user == self.user,
            EventKind::Group(changed) => self.sees_change(changed, written_at),
        }
    }

    fn sees_change(&self, changed: &GroupChanged, written_at: i64) -> bool {
        if self.is_named(changed) {
            return true;
        }
        match self.groups.get(&changed.group) {
            // What came before it joined is hidden like entries. Both times are those of the database's writers.
            Some(sight) => sight.floor == Seq::ZERO || written_at >= sight.joined_at,
            // One of many who left at once, and are not all named.
            None => changed.is_cut && self.former.contains(&changed.group),
        }
    }

    fn is_named(&self, changed: &GroupChanged) -> bool {
        changed.joined.contains(&self.user)
            || changed.left.contains(&self.user)
            || changed.member.as_ref() == Some(&self.user)
    }

    /// Whether `row` says, or may say, that it is a member of a further group or of one less: then it has to be read again.
    #[must_use]
    pub fn is_changed_by(&self, row: &Row) -> bool {
        row.body.group.as_ref().is_some_and(|changed| {
            let GroupChanged { joined, left, .. } = changed;
            let may_have_joined = joined.len() >= USERS_MAX && !self.groups.contains_key(&changed.group);
            let may_have_left = left.len() >= USERS_MAX && self.groups.contains_key(&changed.group);
            let is_cut = changed.is_cut && (may_have_joined || may_have_left);
            is_cut || joined.contains(&self.user) || left.contains(&self.user)
        })
    }

    /// Whether `row` has something that it sees.
    #[must_use]
    pub fn is_concerned_by(&self, row: &Row) -> bool {
        let FeedBody { ranges, corrected, refused, group, profile } = &row.body;
        ranges.iter().any(|range| self.floor(&range.conversation).is_some_and(|floor| floor < range.last))
            || corrected.iter().any(|corrected| corrected.sender == self.user)
            || refused.iter().any(|refused| refused.sender == self.user)
            || group.as_ref().is_some_and(|changed| self.sees_change(changed, row.written_at))
            || profile.as_ref() == Some(&self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::SeqRange;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn conversation(key: &str) -> Conversation {
        Conversation::from_key(key).unwrap()
    }

    /// bot, in group_all from the start and in group_late since the time 50 and the number 7; it has cleared its chat with
    /// ann up to 3.
    fn bot() -> Reader {
        let groups = [("group_all", 0, 10), ("group_late", 7, 50)];
        let groups = groups
            .map(|(key, floor, joined_at)| (conversation(key), GroupSight { floor: Seq(floor), joined_at }));
        let cleared = [(conversation("private_ann bot"), Seq(3)), (conversation("group_all"), Seq(2))];
        Reader::new(user("bot"), groups.into_iter().collect(), cleared.into_iter().collect())
    }

    fn changed(group: &str, joined: &[&str], left: &[&str]) -> GroupChanged {
        let users = |ids: &[&str]| ids.iter().map(|id| user(id)).collect();
        GroupChanged {
            group: conversation(group),
            version: 1,
            change: "update group".to_owned(),
            joined: users(joined),
            left: users(left),
            member: None,
            is_cut: false,
        }
    }

    fn row(body: FeedBody) -> Row {
        Row { position: 1, written_at: 40, body }
    }

    #[test]
    fn entries_are_seen_in_own_conversations_above_their_floors() {
        let bot = bot();
        for (key, floor) in [
            ("group_all", Some(2)),
            ("group_late", Some(7)),
            ("group_other", None),
            ("private_ann bot", Some(3)),
            ("private_bot zoe", Some(0)),
            ("private_bot bot", Some(0)),
            ("private_ann zoe", None),
            ("private_bo t", None),
        ] {
            assert_eq!(bot.floor(&conversation(key)).map(|seq| seq.0), floor, "{key}");
        }
        for (key, last, is_concerned) in [
            ("group_late", 7, false),
            ("group_late", 8, true),
            ("group_other", 8, false),
            ("private_ann bot", 3, false),
            ("private_bot zoe", 1, true),
        ] {
            let range = SeqRange { conversation: conversation(key), after: Seq(0), last: Seq(last) };
            let row = row(FeedBody { ranges: vec![range], ..FeedBody::default() });
            assert_eq!(bot.is_concerned_by(&row), is_concerned, "{key} {last}");
        }
    }

    #[test]
    fn changes_of_groups_are_seen_by_members_and_those_they_name() {
        let bot = bot();
        for (changed, written_at, is_seen) in [
            (changed("group_all", &["zoe"], &[]), 1, true),
            (changed("group_late", &["zoe"], &[]), 49, false),
            (changed("group_late", &["bot"], &[]), 49, true),
            (changed("group_late", &["zoe"], &[]), 50, true),
            (changed("group_other", &["zoe"], &[]), 90, false),
            (changed("group_other", &[], &["bot"]), 90, true),
            (GroupChanged { member: Some(user("bot")), ..changed("group_other", &[], &[]) }, 90, true),
        ] {
            assert_eq!(
                bot.sees(&EventKind::Group(&changed), written_at),
                is_seen,
                "{changed:?} {written_at}"
            );
        }
        assert!(bot.sees(&EventKind::Profile(&user("bot")), 1));
        assert!(!bot.sees(&EventKind::Profile(&user("zoe")), 1));
    }

    #[test]
    fn rows_that_may_change_its_groups_are_noticed() {
        let many: Vec<String> = (0..USERS_MAX).map(|n| format!("user{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let cut = |changed| GroupChanged { is_cut: true, ..changed };
        for (changed, is_noticed) in [
            (changed("group_other", &["bot"], &[]), true),
            (changed("group_all", &[], &["bot"]), true),
            (changed("group_all", &["zoe"], &["ann"]), false),
            (cut(changed("group_other", &many, &[])), true),
            (cut(changed("group_all", &many, &[])), false),
            (cut(changed("group_all", &[], &many)), true),
            (cut(changed("group_other", &[], &many)), false),
        ] {
            let row = row(FeedBody { group: Some(changed.clone()), ..FeedBody::default() });
            assert_eq!(bot().is_changed_by(&row), is_noticed, "{changed:?}");
        }
    }

    #[test]
    fn one_of_many_who_left_sees_that_if_it_was_seen_to_leave() {
        let dismissed = GroupChanged { is_cut: true, ..changed("group_all", &[], &["ann"]) };
        let now = || Reader::new(user("bot"), AHashMap::new(), AHashMap::new());
        assert!(!now().sees(&EventKind::Group(&dismissed), 60));
        let now = now().after(bot());
        assert!(now.sees(&EventKind::Group(&dismissed), 60));
        assert_eq!((now.groups(), now.floor(&conversation("group_all"))), (0, None));
    }
}
