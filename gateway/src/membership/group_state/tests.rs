use shared::permission::{HistoryRange, MemberStatus, Role};

use super::*;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// Joined and left by ids.
pub(in crate::membership) fn change(version: u64, joined: &[&str], left: &[&str]) -> Change {
    Change {
        version,
        joined: joined.iter().copied().map(user).collect(),
        left: left.iter().copied().map(user).collect(),
        newcomer: Membership::new(HistoryRange::default()),
        merges_head: false,
        settings_changed: false,
        dismissed: false,
    }
}

fn at(version: u64) -> GroupSettings {
    GroupSettings { version, ..GroupSettings::default() }
}

/// A reading about `asked`, of whom `members` are members.
fn reading(version: u64, asked: &[&str], members: &[&str]) -> Event {
    let membership = Membership::new(HistoryRange::default());
    Event::Read(Reading {
        asked: asked.iter().copied().map(user).collect(),
        settings: at(version),
        members: members.iter().map(|id| (user(id), membership)).collect(),
    })
}

fn login(id: &str, version: u64, since: Since) -> Event {
    let membership = Membership::new(HistoryRange::default());
    Event::MemberRead(MemberReading {
        user: user(id),
        settings: at(version),
        membership,
        since,
        joined: false,
    })
}

/// A group and the users that have a connection.
struct Group {
    state: GroupState,
    connected: Vec<&'static str>,
    now: Instant,
    effects: Vec<Effect>,
}

/// The first of `connected` is a member, as of version 5.
fn group(connected: &[&'static str]) -> Group {
    let mut group = Group {
        state: GroupState::default(),
        connected: connected.to_vec(),
        now: Instant::now(),
        effects: Vec::new(),
    };
    group.on(login(connected[0], 5, Since::Unchanged));
    assert_eq!(group.known(), (Some(5), vec![connected[0].to_owned()]));
    group
}

impl Group {
    fn on(&mut self, event: Event) {
        let connected = self.connected.clone();
        let context = Context { now: self.now, is_connected: &|id| connected.contains(&id) };
        self.effects.clear();
        self.state.on(event, &context, &mut self.effects);
    }

    fn changed(&mut self, change: Change) {
        self.on(Event::Changed(change));
    }

    /// The version that is relied on, and the members.
    fn known(&self) -> (Option<u64>, Vec<String>) {
        let members = self.state.members().iter().map(ToString::to_string).collect();
        (self.state.settings().map(|settings| settings.version), members)
    }

    fn step(&mut self) -> Step {
        self.state.next_step(self.now)
    }

    /// Those whom the reload that is due asks about.
    fn read(&mut self) -> Vec<String> {
        let Step::Read(mut users) = self.step() else { panic!("nothing is read") };
        users.sort_unstable();
        users.iter().map(ToString::to_string).collect()
    }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[test]
fn reordered_changes_are_applied_in_order_without_a_reading() {
    let mut group = group(&["alice", "bob", "carol"]);
    group.changed(change(8, &["carol"], &[]));
    group.changed(change(7, &[], &["carol"]));
    assert_eq!(group.known(), (None, ids(&["alice"])), "6 is missing");
    group.changed(change(6, &["bob", "carol"], &[]));
    assert_eq!(group.known(), (Some(8), ids(&["alice", "bob", "carol"])), "carol joined, left and joined");
    assert_eq!(group.effects.last(), Some(&Effect::Current));
    assert_eq!(group.step(), Step::Done);
}

#[test]
fn a_user_gets_no_pushes_after_its_removal_although_changes_before_are_missing() {
    let mut group = group(&["alice", "bob"]);
    group.changed(change(6, &["bob"], &[]));
    group.changed(change(8, &[], &["bob"]));
    assert!(group.effects.contains(&Effect::Unsubscribe { user: user("bob"), dismissed: false }));
    assert_eq!(group.known(), (None, ids(&["alice"])));
    group.changed(change(7, &[], &[]));
    assert_eq!(group.known(), (Some(8), ids(&["alice"])));
}

#[test]
fn a_group_is_read_when_a_predecessor_does_not_arrive_in_time() {
    let mut group = group(&["alice", "bob"]);
    group.changed(change(7, &["bob"], &[]));
    assert_eq!(group.known(), (None, ids(&["alice", "bob"])), "a new member gets pushes at once");
    assert!(group.effects.contains(&Effect::StartReload));
    assert_eq!(group.step(), Step::Wait(group.now + GAP_TIMEOUT));
    group.now += GAP_TIMEOUT;
    assert_eq!(group.read(), ["alice", "bob"]);
    group.on(Event::ReadFailed { asked: vec![user("alice"), user("bob")] });
    assert_eq!(group.read(), ["alice", "bob"], "6 does not arrive, and the database is unavailable");
    assert_eq!(group.known().0, None);
}

#[test]
fn held_changes_are_applied_after_a_reading() {
    let mut group = group(&["alice", "bob", "carol"]);
    group.changed(change(8, &["bob"], &["alice"]));
    group.on(reading(7, &["alice", "bob", "carol"], &["alice", "carol"]));
    assert_eq!(group.known(), (Some(8), ids(&["bob", "carol"])));
}

#[test]
fn a_removed_user_is_not_restored_by_an_older_reading() {
    let mut group = group(&["alice", "bob"]);
    group.changed(change(9, &["bob"], &["alice"]));
    group.on(reading(7, &["alice", "bob"], &["alice"]));
    assert!(!group.known().1.contains(&"alice".to_owned()), "{:?}", group.known());
    assert_eq!(group.known().0, None, "8 is missing");
    group.on(login("alice", 8, Since::Unchanged));
    assert!(!group.known().1.contains(&"alice".to_owned()), "{:?}", group.known());
}

#[test]
fn a_reading_from_before_a_change_of_settings_is_not_relied_on() {
    let mut group = group(&["alice"]);
    group.changed(Change { settings_changed: true, ..change(6, &[], &[]) });
    assert!(group.effects.contains(&Effect::TellUpdated));
    assert_eq!(group.known().0, None);
    for (version, known) in [(5, None), (6, Some(6))] {
        group.on(reading(version, &["alice"], &["alice"]));
        assert_eq!(group.known().0, known);
    }
}

#[test]
fn a_reading_older_than_the_group_is_repeated() {
    let mut group = group(&["alice", "bob"]);
    group.on(Event::Logged { version: 6, joined: Vec::new() });
    assert_eq!(group.read(), ["alice"]);
    group.changed(change(6, &[], &[]));
    group.changed(change(7, &["bob"], &[]));
    group.on(reading(6, &["alice"], &[]));
    assert_eq!(group.known(), (Some(7), ids(&["alice", "bob"])));
    assert_eq!(group.read(), ["alice", "bob"]);
    group.on(reading(7, &["alice", "bob"], &["alice", "bob"]));
    assert_eq!(group.step(), Step::Done);
}

#[test]
fn a_group_that_was_invalidated_during_a_reading_is_read_again() {
    let mut group = group(&["alice"]);
    group.on(Event::Invalidated);
    assert_eq!(group.known().0, None);
    assert_eq!(group.read(), ["alice"]);
    group.on(Event::Invalidated);
    group.on(reading(5, &["alice"], &["alice"]));
    assert_eq!(group.known().0, None, "the reading began before");
    assert_eq!(group.read(), ["alice"]);
    group.on(reading(5, &["alice"], &["alice"]));
    assert_eq!(group.known().0, Some(5));
}

#[test]
fn too_many_held_changes_lead_to_a_reading_at_once() {
    let mut group = group(&["alice"]);
    for version in 7..7 + super::super::reorder_buffer::HELD_MAX as u64 {
        group.changed(change(version, &[], &[]));
    }
    assert!(matches!(group.step(), Step::Wait(_)));
    group.changed(change(1_000, &[], &[]));
    assert_eq!((group.state.held(), group.read()), (0, ids(&["alice"])));
}

#[test]
fn a_login_that_is_older_than_the_group_counts_only_if_its_user_did_not_leave_since() {
    let mut group = group(&["alice", "bob", "carol"]);
    group.changed(change(6, &[], &["bob"]));
    group.changed(change(7, &[], &[]));
    group.on(login("carol", 5, Since::Unchanged));
    assert!(group.state.permissions("carol").is_some(), "neither 6 nor 7 concern carol");
    assert_eq!(group.effects, [Effect::Subscribe { user: user("carol"), announced: false }]);
    group.on(login("bob", 5, Since::Unchanged));
    assert_eq!(group.state.permissions("bob"), None);
    assert!(group.state.permissions("alice").is_some());
    assert_eq!(group.read(), ["alice", "bob", "carol"]);
    group.on(reading(7, &["alice", "bob", "carol"], &["alice", "carol"]));
    assert_eq!(group.known(), (Some(7), ids(&["alice", "carol"])));
}

#[test]
fn the_first_login_of_a_group_knows_of_changes_that_were_heard_since() {
    for (since, known) in [(Since::Unchanged, Some(5)), (Since::Heard(6), None), (Since::Forgotten, None)] {
        let mut group = Group {
            state: GroupState::default(),
            connected: vec!["alice"],
            now: Instant::now(),
            effects: Vec::new(),
        };
        group.on(login("alice", 5, since));
        assert_eq!(group.known(), (known, ids(&["alice"])));
        assert_eq!(group.effects.contains(&Effect::StartReload), known.is_none(), "{since:?}");
    }
}

#[test]
fn a_reading_does_not_replace_a_newer_login() {
    let mut group = group(&["alice", "bob"]);
    group.on(Event::Invalidated);
    assert_eq!(group.read(), ["alice"]);
    let status = MemberStatus { role: Role::Owner, muted_until: 0 };
    let membership = Membership { status, history: HistoryRange::default() };
    group.on(Event::MemberRead(MemberReading {
        user: user("bob"),
        settings: at(8),
        membership,
        since: Since::Unchanged,
        joined: false,
    }));
    group.on(reading(7, &["alice", "bob"], &["alice", "bob"]));
    let known = group.state.permissions("bob");
    assert_eq!(known, Some(Permissions::of_member(at(7), membership)));
    group.changed(change(8, &[], &["bob"]));
    assert_eq!(group.known(), (Some(8), ids(&["alice", "bob"])), "bob was a member again as of 8");
}

#[test]
fn the_state_is_idle_without_members_and_reload() {
    let mut group = group(&["alice"]);
    group.on(Event::MemberFound { user: user("alice"), version: 6 });
    group.on(Event::Disconnected(user("alice")));
    assert!(!group.state.is_idle());
    group.connected.clear();
    assert_eq!(group.read(), ["alice"]);
    group.on(reading(6, &["alice"], &["alice"]));
    assert_eq!(group.step(), Step::Done);
    assert!(group.state.is_idle());
}
