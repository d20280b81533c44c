//! Which gateways get the events of a commit: see [`targeted_push`](shared::targeted_push) for the rules.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use parking_lot::Mutex;
use proto::v1;
use proto::v1::event::Kind as EventKind;
use shared::amqp::event_stream::Outgoing;
use shared::conversation::Kind;
use shared::ids::UserId;
use shared::permission::Roster;
use shared::redis::RedisError;
use shared::redis::liveness_registry::LivenessRegistry;
use shared::redis::presence::AllPresence;
use shared::shutdown::Shutdown;
use shared::targeted_push::{Directory, Found, Route};

use crate::commit::facts::Advanced;

/// How often the live gateways and their announcements are read.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// A lookup that takes longer is given up.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(50);
/// After a failed lookup, events go to all gateways for this long.
const PAUSE: Duration = Duration::from_secs(1);
/// Most members of a group whose events go to some gateways.
const MEMBERS_MAX: usize = 50;
/// Most users of one lookup. Further conversations go to all gateways.
const USERS_MAX: usize = 2_000;

/// Finds the gateways of events.
#[derive(Debug)]
pub(crate) struct Targeting {
    presence: AllPresence,
    registry: LivenessRegistry,
    /// Fewer live gateways get all events. 0: all events go to all gateways.
    from_gateways: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    directory: Directory,
    paused_until: Option<Instant>,
}

/// The members of conversations whose events may go to some gateways, by the keys of the conversations.
#[derive(Debug, Default)]
pub(crate) struct Members {
    conversations: AHashMap<String, Vec<UserId>>,
    users: usize,
}

impl Members {
    fn add(&mut self, advanced: &Advanced) {
        let members: Option<Vec<UserId>> = match (&advanced.roster.roster, advanced.conversation.kind()) {
            (Roster::Private { .. }, Kind::Private(lo, hi)) => {
                [lo, hi].into_iter().map(|user| UserId::parse(user).ok()).collect()
            }
            (Roster::Group(group), _) if !group.is_large && group.members.len() <= MEMBERS_MAX => {
                Some(group.members.keys().cloned().collect())
            }
            (Roster::Private { .. } | Roster::Group(_) | Roster::NoGroup, _) => None,
        };
        if let Some(members) = members.filter(|members| self.users + members.len() <= USERS_MAX) {
            self.users += members.len();
            self.conversations.insert(advanced.conversation.key().to_owned(), members);
        }
    }
}

impl Targeting {
    /// All events go to all gateways until [`set`](Self::set).
    #[must_use]
    pub(crate) fn new(presence: AllPresence, registry: LivenessRegistry) -> Self {
        Self { presence, registry, from_gateways: AtomicUsize::default(), state: Mutex::default() }
    }

    /// Finds the gateways of events, from the next commit on, if at least `from_gateways` are alive; 0: never.
    pub(crate) fn set(&self, from_gateways: usize) {
        self.from_gateways.store(from_gateways, Ordering::Relaxed);
    }

    /// Reads the live gateways and what they announce, every second until the stop.
    pub(crate) async fn follow(self: Arc<Self>, stop: Shutdown) {
        loop {
            if self.from_gateways.load(Ordering::Relaxed) > 0 {
                let begun = Instant::now();
                // Without an answer, what was read becomes old, and events go to all gateways.
                if let Ok(announced) = self.announced().await {
                    self.state.lock().directory.read(&announced, begun);
                }
            }
            if !stop.sleep(READ_INTERVAL).await {
                return;
            }
        }
    }

    async fn announced(&self) -> Result<Vec<Option<BTreeSet<String>>>, RedisError> {
        let live = self.registry.live().await?;
        let gateways: Vec<u64> = live.iter().filter_map(|id| u64::from_str_radix(id, 16).ok()).collect();
        self.presence.announced_by(&gateways).await
    }

    /// The members of these conversations; nobody while all events go to all gateways.
    #[must_use]
    pub(crate) fn members(&self, advanced: &[Advanced]) -> Members {
        let mut members = Members::default();
        if self.is_on() {
            advanced.iter().for_each(|advanced| members.add(advanced));
        }
        members
    }

    fn is_on(&self) -> bool {
        let (from, now) = (self.from_gateways.load(Ordering::Relaxed), Instant::now());
        let state = self.state.lock();
        from > 0
            && state.paused_until.is_none_or(|until| until <= now)
            && state.directory.is_worth_a_lookup(from, now)
    }

    /// The gateways that get each of the events of a commit, which is done. Those of conversations that are not in `members` go
    /// to all.
    pub(crate) async fn outgoing(&self, members: Members, events: Vec<v1::Event>) -> Outgoing {
        let Some(found) = self.find(members.conversations).await else {
            return Outgoing { to_all: events, ..Outgoing::default() };
        };
        let (mut state, now) = (self.state.lock(), Instant::now());
        let mut outgoing = Outgoing::default();
        for event in events {
            match found.route(&mut state.directory, &event, now) {
                Route::Some(gateways) => outgoing.to_some.push((gateways, event)),
                Route::All => outgoing.to_all.push(event),
            }
        }
        let each = outgoing.to_some.iter().map(|(gateways, _)| gateways);
        if !state.directory.pays(each, !outgoing.to_all.is_empty(), now) {
            // In front of the others: corrections come last.
            let to_some = outgoing.to_some.drain(..).map(|(_, event)| event);
            outgoing.to_all.splice(0..0, to_some);
        }
        let to = |to| metrics::counter!(shared::metrics::PUSH_PUBLISHED, "to" => to);
        to("some").increment(outgoing.to_some.len() as u64);
        to("all").increment(outgoing.to_all.len() as u64);
        outgoing
    }

    /// Looks the users up. `None`: there are none, or that failed.
    async fn find(&self, conversations: AHashMap<String, Vec<UserId>>) -> Option<FoundMembers> {
        if conversations.is_empty() {
            return None;
        }
        let mut places = AHashMap::new();
        let mut users = Vec::new();
        let mut place = |user: UserId| {
            *places.entry(user.clone()).or_insert_with(|| {
                users.push(user);
                users.len() - 1
            })
        };
        let members = conversations
            .into_iter()
            .map(|(conversation, members)| (conversation, members.into_iter().map(&mut place).collect()))
            .collect();
        let begun = Instant::now();
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, self.presence.find(&users)).await;
        metrics::histogram!(shared::metrics::PUSH_LOOKUP_TIME).record(begun.elapsed().as_secs_f64());
        let reason = match found {
            Ok(Ok(users)) => return Some(FoundMembers { members, users }),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("Redis did not answer within {} ms", LOOKUP_TIMEOUT.as_millis()),
        };
        metrics::counter!(shared::metrics::PUSH_LOOKUPS_FAILED).increment(1);
        tracing::debug!(%reason, "Cannot look up the gateways of events; events go to all gateways for a second");
        self.state.lock().paused_until = Some(Instant::now() + PAUSE);
        None
    }
}

/// The result of one lookup.
struct FoundMembers {
    /// The places of the members of each conversation in `users`.
    members: AHashMap<String, Vec<usize>>,
    users: Vec<Found>,
}

impl FoundMembers {
    /// Corrections and refusals are rare, and go to all.
    fn route(&self, directory: &mut Directory, event: &v1::Event, now: Instant) -> Route {
        let Some(EventKind::Committed(committed)) = &event.kind else { return Route::All };
        let Some(members) = self.members.get(&committed.conversation) else { return Route::All };
        let found = members.iter().filter_map(|place| self.users.get(*place));
        // Where a sender may wait for the reply that its message is stored.
        let origins = committed.messages.iter().filter_map(|message| Some(message.origin?.gateway));
        directory.route(found, origins, now)
    }
}

#[cfg(test)]
mod tests {
    use shared::conversation::Conversation;
    use shared::ids::Seq;
    use shared::permission::{GroupRoster, MemberStatus};

    use super::*;
    use crate::commit::permission_cache::VersionedRoster;

    fn advanced(key: &str, roster: Roster) -> Advanced {
        Advanced {
            conversation: Conversation::from_key(key).unwrap(),
            last_seq: Seq(1),
            roster: Arc::new(VersionedRoster { version: 1, roster }),
            deliveries: Vec::new(),
        }
    }

    fn group(key: &str, members: usize, is_large: bool) -> Advanced {
        let members =
            (0..members).map(|n| (UserId::parse(&format!("u{n}")).unwrap(), Some(MemberStatus::NEW)));
        advanced(key, Roster::Group(GroupRoster { is_muted: false, is_large, members: members.collect() }))
    }

    #[test]
    fn events_of_private_chats_and_small_groups_are_looked_up() {
        let mut members = Members::default();
        members.add(&advanced("private_alice bob", Roster::Private { blocked: Vec::new() }));
        members.add(&group("group_small", MEMBERS_MAX, false));
        for other in [
            group("group_more", MEMBERS_MAX + 1, false),
            group("group_large", 3, true),
            advanced("group_none", Roster::NoGroup),
        ] {
            members.add(&other);
        }
        assert_eq!((members.conversations.len(), members.users), (2, 2 + MEMBERS_MAX));
        assert_eq!(members.conversations["private_alice bob"].len(), 2);
        for n in 0..USERS_MAX {
            members.add(&group(&format!("group_{n}"), MEMBERS_MAX, false));
        }
        assert!((USERS_MAX - MEMBERS_MAX..=USERS_MAX).contains(&members.users), "{}", members.users);
    }

    #[test]
    fn the_gateways_of_members_and_senders_get_an_event_and_all_get_the_others() {
        let (mut directory, begun) = (Directory::default(), Instant::now());
        let runs = Some(BTreeSet::from(["r".to_owned()]));
        directory.read(&vec![runs.clone(); 8], begun);
        let now = begun + Duration::from_secs(10);
        directory.read(&vec![runs; 8], now);
        let found = |gateways: &[u64]| Found {
            run: "r".to_owned(),
            gateways: gateways.into(),
            at_earlier_version: false,
        };
        let found = FoundMembers {
            members: AHashMap::from_iter([("group_a".to_owned(), vec![0, 1])]),
            users: vec![found(&[1]), found(&[2, 1])],
        };
        let committed = |group: &str| {
            let origin = Some(v1::Origin { gateway: 7, connection: 1 });
            let messages = vec![v1::StoredMessage { origin, ..Default::default() }, Default::default()];
            EventKind::Committed(v1::Committed { conversation: group.to_owned(), messages })
        };
        let corrected = v1::Corrected { conversation: "group_a".to_owned(), ..Default::default() };
        let table = [
            (committed("group_a"), Route::Some([1, 2, 7].into())),
            (committed("group_b"), Route::All),
            (EventKind::Corrected(corrected), Route::All),
        ];
        for (kind, expected) in table {
            let event = v1::Event { kind: Some(kind) };
            assert_eq!(found.route(&mut directory, &event, now), expected, "{event:?}");
        }
    }
}
