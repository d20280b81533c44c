//! Who may use which conversation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use parking_lot::Mutex;
use proto::v1;
use shared::conversation::{Conversation, Kind};
use shared::ids::UserId;
use shared::mysql::groups::{self, GroupError, Sizes};
use shared::mysql::members::{self, Membership};
use shared::mysql::{self, Pool};

use crate::announce::Announcer;
use crate::hub::Hub;
use crate::wire::refusal::Refusal;

/// A membership that was seen is believed for so long, should the event that ends it be lost.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// Memberships remembered at once; beyond, all are forgotten and looked up again.
const REMEMBERED_MAX: usize = 200_000;

const SIZES: Sizes = Sizes { large_above: 500, members_max: 100_000 };

fn sql(error: GroupError) -> mysql::Error {
    match error {
        GroupError::Sql(error) => error,
        other => mysql::Error::Protocol(other.to_string()),
    }
}

/// The memberships that this gateway has seen, and the way to the others.
#[derive(Debug)]
pub struct Memberships {
    pool: Pool,
    hub: Arc<Hub>,
    announcer: Announcer,
    auto_create: bool,
    seen: Mutex<AHashMap<(Conversation, UserId), Instant>>,
}

impl Memberships {
    /// `auto_create`: an unknown group comes into being, open to all, when someone uses it.
    #[must_use]
    pub fn new(pool: Pool, hub: Arc<Hub>, announcer: Announcer, auto_create: bool) -> Self {
        Self { pool, hub, announcer, auto_create, seen: Mutex::default() }
    }

    /// Whether `user` is known, without asking anyone, to be allowed into `conversation`.
    #[must_use]
    pub fn is_known_member(&self, conversation: &Conversation, user: &UserId) -> bool {
        match conversation.kind() {
            Kind::Private(lo, hi) => user.as_str() == lo || user.as_str() == hi,
            Kind::Group => {
                // The key is two reference counts, not two copies.
                let key = (conversation.clone(), user.clone());
                self.seen.lock().get(&key).is_some_and(|seen| seen.elapsed() < BELIEVED_FOR)
            }
        }
    }

    /// Makes sure that `user` may use `conversation`, joining an open group on the way.
    ///
    /// # Errors
    /// 403, 404, or 503 where the database is away.
    pub async fn require(&self, conversation: &Conversation, user: &UserId) -> Result<(), Refusal> {
        if self.is_known_member(conversation, user) {
            return Ok(());
        }
        if conversation.kind() != Kind::Group {
            return Err(Refusal::Forbidden(
                "you are not one of the two users of this private conversation".to_owned(),
            ));
        }
        let found =
            members::membership(&self.pool, conversation, user).await.map_err(|e| database_away(&e))?;
        match found {
            Membership::Member(..) => {}
            Membership::Open => self.join(conversation, user).await.map_err(|e| database_away(&e))?,
            Membership::NoGroup if self.auto_create => {
                self.create_and_join(conversation, user).await.map_err(|e| database_away(&e))?;
            }
            Membership::NoGroup => {
                return Err(Refusal::NotFound("there is no such group: check conversation_id".to_owned()));
            }
            Membership::Stranger => {
                return Err(Refusal::Forbidden(
                    "you are not a member of this group: ask to be added".to_owned(),
                ));
            }
        }
        self.remember(conversation, user);
        Ok(())
    }

    async fn create_and_join(&self, group: &Conversation, user: &UserId) -> Result<(), mysql::Error> {
        groups::create_open(&self.pool, group, SIZES).await.map_err(sql)?;
        self.join(group, user).await
    }

    async fn join(&self, group: &Conversation, user: &UserId) -> Result<(), mysql::Error> {
        groups::join(&self.pool, group, user, SIZES).await.map_err(sql)?;
        // Here at once, so that the user's own next pull runs with pushes on; elsewhere by the event.
        self.hub.join(user, group);
        let joined = v1::MembershipChanged {
            conversation: group.key().to_owned(),
            joined: vec![user.as_str().to_owned()],
            left: Vec::new(),
            ..Default::default()
        };
        self.announcer.announce(v1::event::Kind::MembershipChanged(joined));
        Ok(())
    }

    /// The groups whose pushes `user` is to get.
    ///
    /// # Errors
    /// 503 where the database is away.
    pub async fn groups_of(&self, user: &UserId) -> Result<Vec<Conversation>, Refusal> {
        let groups = members::groups_of(&self.pool, user).await.map_err(|e| database_away(&e))?;
        let groups: Vec<_> = groups.into_iter().map(|(group, ..)| group).collect();
        for group in &groups {
            self.remember(group, user);
        }
        Ok(groups)
    }

    /// Someone changed a group: what is remembered about these users is no longer to be believed.
    pub fn changed<'u>(&self, group: &Conversation, users: impl Iterator<Item = &'u UserId>) {
        let mut seen = self.seen.lock();
        for user in users {
            seen.remove(&(group.clone(), user.clone()));
        }
    }

    fn remember(&self, group: &Conversation, user: &UserId) {
        let mut seen = self.seen.lock();
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        seen.insert((group.clone(), user.clone()), Instant::now());
    }
}

/// What a client is told when a statement failed.
pub(crate) fn database_away(error: &mysql::Error) -> Refusal {
    tracing::warn!(%error, "a statement failed");
    if mysql::is_away(error) || mysql::is_lock_conflict(error) {
        let message = "the database is away: try again".to_owned();
        return Refusal::Overloaded {
            message,
            retry_after_ms: rand::RngExt::random_range(&mut rand::rng(), 500..=2_000),
        };
    }
    Refusal::Fault
}
