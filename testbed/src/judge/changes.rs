//! What messages show after edits and reactions: computed from the entries, and as a pull shows it.

use std::collections::BTreeMap;

use super::verdict::Verdict;
use crate::client::{Reactions, StoredMessage};

/// The reactions to one message that stand: each with its user and the number of its entry.
type Standing = Vec<(String, String, u64)>;

/// What the entries of a list make of one of its messages.
#[derive(Debug, Default)]
struct Shown<'l> {
    /// The last edit.
    edit: Option<&'l StoredMessage>,
    standing: Standing,
}

fn react(standing: &mut Standing, entry: &StoredMessage) {
    let reaction = entry.reaction.clone().unwrap_or_default();
    let place = standing.iter().position(|(known, user, _)| (known, user) == (&reaction, &entry.sender_id));
    match place {
        Some(place) if entry.remove => drop(standing.remove(place)),
        None if !entry.remove => standing.push((reaction, entry.sender_id.clone(), entry.seq)),
        _ => {}
    }
}

/// By the number of the message.
fn shown(list: &[StoredMessage]) -> BTreeMap<u64, Shown<'_>> {
    let mut shown: BTreeMap<u64, Shown<'_>> = BTreeMap::new();
    for entry in list {
        if let Some(target) = entry.edit_seq {
            shown.entry(target).or_default().edit = Some(entry);
        }
        if let Some(target) = entry.react_seq {
            react(&mut shown.entry(target).or_default().standing, entry);
        }
    }
    shown
}

/// Users that a message shows with a reaction.
const SHOWN_USERS_MAX: usize = 20;

/// In the order in which a message shows them: that of the earliest one, and within it that of reacting.
fn grouped(standing: &Standing) -> Vec<Reactions> {
    let mut grouped: Vec<Reactions> = Vec::new();
    for (reaction, user, _) in standing {
        let place = grouped.iter().position(|known| known.reaction == *reaction);
        let place = place.unwrap_or_else(|| {
            grouped.push(Reactions { reaction: reaction.clone(), count: 0, user_ids: Vec::new() });
            grouped.len() - 1
        });
        grouped[place].count += 1;
        if grouped[place].user_ids.len() < SHOWN_USERS_MAX {
            grouped[place].user_ids.push(user.clone());
        }
    }
    grouped
}

/// Judges that each message of a complete list shows what its entries say: the content of the last edit, and the reactions
/// that stand.
pub(super) fn judge_state(list: &[StoredMessage], verdict: &mut Verdict) {
    let shown = shown(list);
    for message in list {
        let none = Shown::default();
        let by_entries = shown.get(&message.seq).unwrap_or(&none);
        let content = by_entries.edit.is_none_or(|edit| edit.content == message.content);
        let edited_at = by_entries.edit.map(|edit| edit.send_time);
        let reactions = grouped(&by_entries.standing);
        if !content || message.edited_at != edited_at || message.reactions != reactions {
            verdict.record(
                |v| &mut v.stale,
                || format!("stale: {message:?}, and by its entries {:?}, {reactions:?}", by_entries.edit),
            );
        }
    }
}

/// Whether a reaction that was answered with code 0 and this number, and is not in the list, changed nothing at its turn. That
/// is after all lower numbers; after a repair it may be later.
pub(super) fn changed_nothing(
    list: &[StoredMessage],
    user: &str,
    (target, reaction, removes): (u64, &str, bool),
    acked: u64,
) -> bool {
    let same = list.iter().filter(|entry| {
        entry.react_seq == Some(target)
            && entry.sender_id == user
            && entry.reaction.as_deref() == Some(reaction)
    });
    let (before, later): (Vec<_>, Vec<_>) = same.partition(|entry| entry.seq < acked);
    let stood = before.last().is_some_and(|entry| !entry.remove);
    stood != removes || later.iter().any(|entry| entry.remove == removes)
}

/// The messages of a reader after all entries that it has were applied to them, whatever each showed when it was read. The
/// order of reactions is not kept.
#[must_use]
pub fn applied(seen: &[StoredMessage]) -> Vec<StoredMessage> {
    let changes = shown(seen);
    let mut seen = seen.to_vec();
    for message in &mut seen {
        let none = Shown::default();
        let by_entries = changes.get(&message.seq).unwrap_or(&none);
        if let Some(edit) = by_entries.edit {
            message.content.clone_from(&edit.content);
            message.edited_at = Some(edit.send_time);
        }
        // The reader has every entry, so what it was shown with the message tells nothing more.
        message.reactions = grouped(&by_entries.standing);
        message.reactions.sort_by(|a, b| a.reaction.cmp(&b.reaction));
        message.reactions.iter_mut().for_each(|reactions| reactions.user_ids.sort_unstable());
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seq: u64, content: &str) -> StoredMessage {
        StoredMessage { seq, content: content.into(), sender_id: "ann".into(), ..StoredMessage::default() }
    }

    fn edit(seq: u64, target: u64, content: &str) -> StoredMessage {
        StoredMessage { edit_seq: Some(target), send_time: 5, ..text(seq, content) }
    }

    fn reaction(seq: u64, user: &str, reaction: &str, remove: bool) -> StoredMessage {
        let reaction = Some(reaction.to_owned());
        StoredMessage { react_seq: Some(1), sender_id: user.into(), reaction, remove, ..text(seq, "") }
    }

    fn of(reaction: &str, users: &[&str]) -> Reactions {
        let user_ids = users.iter().map(|user| (*user).to_owned()).collect();
        Reactions { reaction: reaction.into(), count: u32::try_from(users.len()).unwrap(), user_ids }
    }

    fn list() -> Vec<StoredMessage> {
        vec![
            StoredMessage {
                edited_at: Some(5),
                reactions: vec![of("b", &["bob"]), of("a", &["bob"])],
                ..text(1, "newest")
            },
            edit(2, 1, "new"),
            reaction(3, "ann", "a", false),
            reaction(4, "bob", "b", false),
            reaction(5, "bob", "a", false),
            edit(6, 1, "newest"),
            reaction(7, "ann", "a", true),
        ]
    }

    fn stale(change: impl FnOnce(&mut StoredMessage)) -> usize {
        let (mut list, mut verdict) = (list(), Verdict::default());
        change(&mut list[0]);
        judge_state(&list, &mut verdict);
        assert_eq!(verdict.is_good(), verdict.stale == 0);
        verdict.stale
    }

    #[test]
    fn a_message_shows_its_last_edit_and_the_reactions_that_stand() {
        assert_eq!(stale(|_| {}), 0);
        assert_eq!(stale(|shown| shown.content = "new".into()), 1);
        assert_eq!(stale(|shown| shown.edited_at = None), 1);
        assert_eq!(stale(|shown| shown.reactions.swap(0, 1)), 1);
        assert_eq!(stale(|shown| shown.reactions[1].user_ids.push("ann".into())), 1);
        assert_eq!(stale(|shown| drop(shown.reactions.pop())), 1);
    }

    #[test]
    fn readers_that_read_a_message_before_and_after_its_changes_end_with_the_same() {
        let mut early = list();
        early[0] = text(1, "old");
        assert_eq!(applied(&early), applied(&list()));
        early[1].content = "other".into();
        assert_ne!(applied(&early), applied(&list()));
    }

    #[test]
    fn a_reaction_without_an_entry_changed_nothing_only_if_it_stood_already() {
        let list = list();
        assert!(changed_nothing(&list, "bob", (1, "a", false), 6));
        assert!(changed_nothing(&list, "bob", (1, "a", false), 5), "the turn of both was later");
        assert!(!changed_nothing(&list, "bob", (1, "c", false), 5), "it never stood");
        assert!(!changed_nothing(&list, "bob", (1, "a", true), 6));
        assert!(changed_nothing(&list, "ann", (1, "a", true), 8));
        assert!(changed_nothing(&list, "eve", (1, "a", true), 8));
        assert!(!changed_nothing(&list, "ann", (2, "a", false), 8));
    }
}
