use std::collections::BTreeMap;

use ahash::AHashMap;
use proptest::prelude::*;
use shared::conversation::Conversation;
use shared::message::fixture::{numbered, text, with_kind};
use shared::message::{Body, SHOWN_USERS_MAX};
use shared::meta::Meta;
use shared::mysql::changes::{ChangeQuery, ReactionQuery};
use shared::permission::{GroupRoster, MemberStatus, Role};

use super::store::Store;
use super::*;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// A group with the owner `olga` and the members `ann`, `bob` and `u0` to `u39`.
fn roster() -> Roster {
    let member = |role| Some(MemberStatus { role, muted_until: 0 });
    let mut members = AHashMap::from_iter([
        (user("olga"), member(Role::Owner)),
        (user("ann"), member(Role::Member)),
        (user("bob"), member(Role::Member)),
    ]);
    members.extend((0..40).map(|n| (user(&format!("u{n}")), member(Role::Member))));
    Roster::Group(GroupRoster { members, ..GroupRoster::default() })
}

fn entry(seq: u64, sender: &str, kind: MessageKind) -> Pending {
    let message = with_kind(numbered("group_1", seq, sender, &format!("m{seq}")), kind);
    Pending::new(message, seq, seq, false)
}

fn edit(target: u64, content: &str) -> MessageKind {
    MessageKind::Edit { target: Seq(target), content: Some(Body::new(content.to_owned()).unwrap()) }
}

fn react(target: u64, reaction: &str) -> MessageKind {
    let reaction = Body::reaction(reaction.to_owned()).unwrap();
    MessageKind::Reaction { target: Seq(target), reaction, removes: false }
}

fn unreact(target: u64, reaction: &str) -> MessageKind {
    let reaction = Body::reaction(reaction.to_owned()).unwrap();
    MessageKind::Reaction { target: Seq(target), reaction, removes: true }
}

fn pin(target: u64, removes: bool) -> MessageKind {
    MessageKind::Pin { target: Seq(target), removes }
}

fn query<'a>(conversation: &'a Conversation, batch: &'a [Pending]) -> ChangeQuery<'a> {
    let mut query = ChangeQuery {
        conversation,
        targets: BTreeSet::new(),
        reactions: Vec::new(),
        pins: batch.iter().any(|one| matches!(one.message.kind, MessageKind::Pin { .. })),
    };
    for message in batch.iter().map(|pending| &pending.message) {
        query.targets.extend(message.kind.changes());
        if let MessageKind::Reaction { target, reaction, removes } = &message.kind {
            let (target, reaction, user) = (*target, reaction.as_str(), &message.sender);
            query.reactions.push(ReactionQuery { target, reaction, user, removes: *removes });
        }
    }
    query
}

/// Commits `batch` as a transaction does, and returns what became of each entry.
fn commit(store: &mut Store, batch: &[Pending]) -> Vec<Result<Applied, Denied>> {
    let (conversation, roster) = (Conversation::from_key("group_1").unwrap(), roster());
    let facts = store.read(&query(&conversation, batch));
    let mut targets = Targets::new(Some(&facts));
    let mut taken: BTreeMap<Seq, &Pending> = BTreeMap::new();
    let mut results = Vec::new();
    for pending in batch {
        let target = pending.message.kind.changes().and_then(|seq| taken.get(&seq)).copied();
        let result = targets.apply(pending, &roster, target);
        if result == Ok(Applied::Stored) {
            taken.insert(pending.seq, pending);
        }
        results.push(result);
    }
    for (seq, pending) in &taken {
        store.insert(*seq, &pending.message);
    }
    store.write(&targets.into_writes());
    results
}

fn with_text(sender: &str) -> Store {
    let mut store = Store::default();
    assert_eq!(commit(&mut store, &[entry(1, sender, text("old"))]), [Ok(Applied::Stored)]);
    store
}

fn content(store: &Store, seq: u64) -> String {
    store.rows[&Seq(seq)].kind.content().into_owned()
}

#[test]
fn an_edit_replaces_the_content_and_the_last_one_counts() {
    let mut store = with_text("ann");
    commit(&mut store, &[entry(2, "ann", edit(1, "new")), entry(3, "ann", edit(1, "newer"))]);
    assert_eq!(content(&store, 1), "newer");
    assert!(store.rows[&Seq(1)].edited_at.is_some());
    let denied = |sender, kind| commit(&mut with_text("ann"), &[entry(2, sender, kind)])[0];
    assert_eq!(denied("bob", edit(1, "x")), Err(Denied::EditNeedsSender));
    assert_eq!(denied("olga", edit(1, "x")), Err(Denied::EditNeedsSender));
    assert_eq!(denied("ann", edit(9, "x")), Err(Denied::NoTarget));
    assert_eq!(denied("eve", edit(1, "x")), Err(Denied::NotMember));
    let empty = MessageKind::Edit { target: Seq(1), content: None };
    assert_eq!(denied("ann", empty), Err(Denied::NotEditable), "a text must have content");
    let results = commit(&mut store, &[entry(4, "ann", edit(2, "x"))]);
    assert_eq!(results, [Err(Denied::NoTarget)], "an edit of an edit");
}

#[test]
fn a_recall_removes_everything_and_ends_further_changes() {
    let mut store = with_text("ann");
    commit(
        &mut store,
        &[
            entry(2, "ann", edit(1, "secret")),
            entry(3, "bob", react(1, "+1")),
            entry(4, "olga", pin(1, false)),
            entry(5, "ann", MessageKind::Recall(Seq(1))),
        ],
    );
    let row = store.shown(Seq(1)).unwrap();
    assert!(row.is_recalled && row.reactions.is_empty() && row.edited_at.is_none());
    assert_eq!((content(&store, 1), content(&store, 2)), (String::new(), String::new()));
    assert!(store.pins.is_empty() && store.reactions.is_empty());
    for kind in [edit(1, "x"), react(1, "+1"), pin(1, false)] {
        let sender = if matches!(kind, MessageKind::Pin { .. }) { "olga" } else { "ann" };
        assert_eq!(commit(&mut store, &[entry(6, sender, kind)]), [Err(Denied::TargetRecalled)]);
    }
}

#[test]
fn a_reaction_counts_once_and_one_that_is_there_changes_nothing() {
    let mut store = with_text("ann");
    let batch =
        [entry(2, "bob", react(1, "+1")), entry(3, "bob", react(1, "+1")), entry(4, "ann", react(1, "+1"))];
    let results = commit(&mut store, &batch);
    assert_eq!(results, [Ok(Applied::Stored), Ok(Applied::Unchanged), Ok(Applied::Stored)]);
    let shown = store.shown(Seq(1)).unwrap().reactions;
    assert_eq!((shown.len(), shown[0].total), (1, 2));
    assert_eq!(commit(&mut store, &[entry(5, "bob", react(1, "+1"))]), [Ok(Applied::Unchanged)]);
    assert_eq!(commit(&mut store, &[entry(6, "u1", unreact(1, "+1"))]), [Ok(Applied::Unchanged)]);
    commit(&mut store, &[entry(7, "bob", unreact(1, "+1")), entry(8, "bob", react(1, "+1"))]);
    let shown = store.shown(Seq(1)).unwrap().reactions;
    let users: Vec<_> = shown[0].first.iter().map(|first| first.0.as_str()).collect();
    assert_eq!(users, ["ann", "bob"], "in the order of reacting");
    commit(&mut store, &[entry(9, "bob", unreact(1, "+1")), entry(10, "ann", unreact(1, "+1"))]);
    assert!(store.shown(Seq(1)).unwrap().reactions.is_empty() && !store.rows[&Seq(1)].has_reactions);
}

#[test]
fn a_message_has_at_most_20_different_reactions_and_shows_20_users_of_each() {
    let mut store = with_text("ann");
    let different: Vec<Pending> = (0..20).map(|n| entry(n + 2, "ann", react(1, &format!("r{n}")))).collect();
    assert!(commit(&mut store, &different).iter().all(|result| *result == Ok(Applied::Stored)));
    assert_eq!(commit(&mut store, &[entry(30, "bob", react(1, "more"))]), [Err(Denied::ReactionsFull)]);
    let many: Vec<Pending> = (0..40).map(|n| entry(n + 31, &format!("u{n}"), react(1, "r7"))).collect();
    commit(&mut store, &many);
    let of = |store: &Store| {
        let shown = store.shown(Seq(1)).unwrap().reactions;
        shown.into_iter().find(|one| one.reaction == "r7").unwrap()
    };
    assert_eq!((of(&store).total, of(&store).first.len()), (41, SHOWN_USERS_MAX));
    // Those that are shown leave: others take their places.
    let leave: Vec<Pending> = (0..15).map(|n| entry(n + 80, &format!("u{n}"), unreact(1, "r7"))).collect();
    commit(&mut store, &leave);
    let users: Vec<_> = of(&store).first.iter().map(|first| first.0.as_str().to_owned()).collect();
    let expected = std::iter::once("ann".to_owned()).chain((15..34).map(|n| format!("u{n}")));
    assert_eq!(users, expected.collect::<Vec<_>>());
    let results =
        commit(&mut store, &[entry(100, "ann", unreact(1, "r3")), entry(101, "bob", react(1, "more"))]);
    assert_eq!(results, [Ok(Applied::Stored); 2], "one that ended makes room");
}

#[test]
fn pins_are_for_admins_and_at_most_50() {
    let mut store = with_text("ann");
    assert_eq!(commit(&mut store, &[entry(2, "ann", pin(1, false))]), [Err(Denied::PinNeedsAdmin)]);
    let results = commit(&mut store, &[entry(2, "olga", pin(1, false)), entry(3, "olga", pin(1, false))]);
    assert_eq!(results, [Ok(Applied::Stored), Ok(Applied::Unchanged)]);
    let results = commit(&mut store, &[entry(4, "olga", pin(2, false)), entry(5, "olga", pin(9, true))]);
    assert_eq!(results, [Err(Denied::NoTarget); 2], "a pin cannot be pinned");
    let texts: Vec<Pending> = (10..60).map(|seq| entry(seq, "ann", text("x"))).collect();
    commit(&mut store, &texts);
    let pins: Vec<Pending> = (10..60).map(|seq| entry(seq + 60, "olga", pin(seq, false))).collect();
    let results = commit(&mut store, &pins);
    assert_eq!(results.iter().filter(|result| **result == Ok(Applied::Stored)).count(), 49);
    assert_eq!(results[49], Err(Denied::PinsFull));
    assert_eq!(commit(&mut store, &[entry(130, "olga", pin(1, true))]), [Ok(Applied::Stored)]);
    assert_eq!(store.pins.len(), 49);
}

fn mentioning(seq: u64, sender: &str, kind: MessageKind, users: &[&str]) -> Pending {
    let mut pending = entry(seq, sender, kind);
    let mentions = Some(Mentions::parse(users).unwrap());
    pending.message.message.details = Some(Box::new(Details { mentions, ..Details::default() }));
    pending
}

#[test]
fn mentions_count_for_members_and_not_for_the_sender() {
    let mut store = Store::default();
    let counted = |store: &Store, seq| store.mentions.get(&Seq(seq)).cloned();
    let users = |ids: &[&str]| Some(Mentions::parse(ids).unwrap());
    commit(&mut store, &[mentioning(1, "ann", text("x"), &["bob", "eve", "ann", "bob"])]);
    assert_eq!(counted(&store, 1), users(&["bob"]));
    commit(&mut store, &[mentioning(2, "ann", text("x"), &["eve"])]);
    assert_eq!(counted(&store, 2), None);
    commit(&mut store, &[mentioning(3, "ann", edit(1, "y"), &["olga"])]);
    assert_eq!(counted(&store, 1), users(&["olga"]), "an edit replaces them");
    commit(&mut store, &[mentioning(4, "ann", edit(1, "y"), &[])]);
    assert_eq!(counted(&store, 1), users(&[]));
    commit(
        &mut store,
        &[mentioning(5, "ann", text("x"), &["*"]), entry(6, "ann", MessageKind::Recall(Seq(5)))],
    );
    assert_eq!(counted(&store, 5), None);
    let Roster::Group(mut group) = roster() else { unreachable!() };
    let extra = (0..80).map(|n| (user(&format!("x{n}")), Some(MemberStatus::NEW)));
    group.members.extend(extra);
    let big = Roster::Group(group);
    let apply = |sender| Targets::new(None).apply(&mentioning(7, sender, text("x"), &["*"]), &big, None);
    assert_eq!(apply("ann"), Err(Denied::EveryoneNeedsAdmin));
    assert_eq!(apply("olga"), Ok(Applied::Stored));
}

/// What a client has that applies the entries in their order to an empty view.
#[derive(Debug, Default)]
struct View {
    messages: BTreeMap<Seq, Stored>,
    pins: BTreeMap<Seq, Seq>,
}

impl View {
    fn apply(&mut self, entry: &Stored) {
        let Some(target) = entry.kind.changes() else {
            self.messages.insert(entry.seq, entry.clone());
            return;
        };
        let Some(found) = self.messages.get_mut(&target) else { panic!("{target} is unknown") };
        match &entry.kind {
            MessageKind::Recall(_) => {
                found.blank();
                found.reactions.clear();
                self.pins.remove(&target);
            }
            MessageKind::Edit { content, .. } => {
                found.edit(content.clone(), entry.details.as_deref(), entry.send_time_ms);
            }
            MessageKind::Reaction { reaction, removes, .. } => {
                let at = found.reactions.iter().position(|one| one.reaction == reaction.as_str());
                let at = at.unwrap_or_else(|| {
                    let reaction = reaction.as_str().to_owned();
                    found.reactions.push(ReactionSummary { reaction, total: 0, first: Vec::new() });
                    found.reactions.len() - 1
                });
                let one = &mut found.reactions[at];
                if *removes {
                    one.first.retain(|first| first.0 != entry.sender);
                } else {
                    one.first.push(FirstUser(entry.sender.clone(), entry.seq));
                }
                one.total = u32::try_from(one.first.len()).unwrap();
                found.reactions.retain(|one| one.total > 0);
                found.has_reactions = !found.reactions.is_empty();
            }
            MessageKind::Pin { removes: true, .. } => drop(self.pins.remove(&target)),
            MessageKind::Pin { removes: false, .. } => drop(self.pins.insert(target, entry.seq)),
            _ => unreachable!(),
        }
    }

    /// As a page shows it.
    fn shown(&self, seq: Seq) -> Stored {
        let mut found = self.messages[&seq].clone();
        found.reactions.sort_by_key(|one| one.first[0].1);
        found.reactions.iter_mut().for_each(|one| one.first.truncate(SHOWN_USERS_MAX));
        found
    }
}

fn any_entry() -> impl Strategy<Value = (String, MessageKind, Option<Details>)> {
    let sender = prop_oneof!["ann|bob|olga|eve", (0..40).prop_map(|n| format!("u{n}"))];
    let target = 1..8u64;
    let reaction = "[abc]";
    let kind = prop_oneof![
        3 => "[xyz]".prop_map(|content| text(&content)),
        1 => "[xyz]?".prop_map(|content| {
            MessageKind::App { msg_type: 100, content: Body::new_or_empty(content).unwrap() }
        }),
        1 => target.clone().prop_map(|target| MessageKind::Recall(Seq(target))),
        3 => (target.clone(), "[xyz]").prop_map(|(target, content)| edit(target, &content)),
        5 => (target.clone(), reaction).prop_map(|(target, reaction)| react(target, &reaction)),
        3 => (target.clone(), reaction).prop_map(|(target, reaction)| unreact(target, &reaction)),
        2 => (target, any::<bool>()).prop_map(|(target, removes)| pin(target, removes)),
    ];
    let details = prop_oneof![
        3 => Just(None),
        1 => ("\\{\\}|\\{\"a\":1\\}", "bob|eve|\\*|").prop_map(|(meta, mention)| {
            let mentions: Vec<_> = Some(mention).filter(|mention| !mention.is_empty()).into_iter().collect();
            let (meta, mentions) = (Some(Meta::parse(&meta).unwrap()), Some(Mentions::parse(&mentions).unwrap()));
            Some(Details { meta, mentions, reply_to: None, attachments: Vec::new() })
        }),
    ];
    (sender, kind, details)
}

proptest! {
    /// The two views that clients can have are one: that of the entries, and that of a fresh pull.
    #[test]
    fn applying_the_entries_in_order_gives_what_a_pull_gives(
        entries in proptest::collection::vec(any_entry(), 1..60),
        sizes in proptest::collection::vec(1usize..8, 60),
    ) {
        let (mut store, mut next, mut announced) = (Store::default(), 1, Vec::new());
        let mut rest = &entries[..];
        for size in sizes {
            let (batch, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            let mut pending = Vec::new();
            for (sender, kind, details) in batch {
                let mut one = entry(next, sender, kind.clone());
                let takes_details = matches!(kind.msg_type(), 1 | 2 | 4 | 100);
                one.message.message.details = details.clone().filter(|_| takes_details).map(Box::new);
                pending.push(one);
                next += 1;
            }
            let results = commit(&mut store, &pending);
            let stored = pending.iter().zip(results).filter(|(_, result)| *result == Ok(Applied::Stored));
            announced.extend(stored.map(|(one, _)| Stored::new(one.message.message.clone(), one.seq)));
        }
        // As they were pushed, and as a client pulls them later: some are blanked or edited then.
        let pulled: Vec<Stored> = store.rows.values().cloned().collect();
        for entries in [announced, pulled] {
            let mut view = View::default();
            entries.iter().for_each(|entry| view.apply(entry));
            for seq in view.messages.keys() {
                prop_assert_eq!(store.shown(*seq), Some(view.shown(*seq)));
            }
            prop_assert_eq!(&store.pins, &view.pins);
        }
    }
}
