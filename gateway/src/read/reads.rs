//! Answers read requests of all connections.

use std::sync::Arc;
use std::time::Duration;

use shared::conversation::{Conversation, Kind};
use shared::ids::{Seq, UserId};
use shared::mysql::Pool;
use shared::mysql::positions::ListedPosition;
use shared::mysql::profiles::{self, Profile};
use shared::mysql::timeline::Direction;
use shared::redis::inbox::Inboxes;
use shared::shutdown::Shutdown;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::moved_positions::MovedPositions;
use super::page_reader::{PageKey, PageReader};
use super::read_positions::ReadPositions;
use super::sync::ConversationLists;
use super::tail_cache::TailCache;
use super::unread_total::UnreadTotals;
use crate::announce::Announcer;
use crate::budget::{Budgets, Payer, ReadPermit, ReplyBytes, cost, page_bytes, profiles_bytes};
use crate::identity::Identity;
use crate::membership::Memberships;
use crate::outbox::ReplyTo;
use crate::wire::api_error::ApiError;
use crate::wire::context::RequestContext;
use crate::wire::listing::Listing;
use crate::wire::reply;
use crate::wire::request::{Cmd, PullRequest, SyncRequest};
use crate::wire::retry_delay::RetryDelay;

/// How long a heartbeat waits for the version of the newest change. Without it the reply has none.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// The bytes that are reserved for one message, its reactions or the pins: those of a page of this many entries.
const SINGLE_READ_ENTRIES: u16 = 100;

/// The parts that reads use.
#[derive(Debug)]
pub(crate) struct ReadDeps {
    /// MySQL.
    pub(crate) pool: Pool,
    /// In Redis.
    pub(crate) inboxes: Inboxes,
    /// For permissions, and the large groups of connected users.
    pub(crate) memberships: Arc<Memberships>,
    /// Of the users who read.
    pub(crate) budgets: Arc<Budgets>,
    /// For moved read positions.
    pub(crate) announcer: Announcer,
    /// For reads that are shared by several requests; stopped after the last connection is closed.
    pub(crate) tasks: Shutdown,
}

/// Limits of reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadSettings {
    /// Page queries that run at the same time. Further ones wait; identical ones are merged.
    pub(crate) concurrency: usize,
    /// Every request is answered within this time.
    pub(crate) deadline: Duration,
    /// As in [`Inboxes`].
    pub(crate) inbox_ttl_s: u32,
    /// A moved read position may withdraw notifications.
    pub(crate) has_notifications: bool,
}

/// Handle for read requests.
#[derive(Debug)]
pub(crate) struct Reads {
    pool: Pool,
    memberships: Arc<Memberships>,
    pages: PageReader,
    positions: ReadPositions,
    lists: ConversationLists,
    totals: UnreadTotals,
    budgets: Arc<Budgets>,
    deadline: Duration,
}

/// A read that has begun: its user pays for it, and the bytes of its reply are reserved.
struct Begun {
    deadline: Instant,
    bytes: ReplyBytes,
    _permit: ReadPermit,
}

impl Reads {
    /// Reads from `deps` within `settings`.
    #[must_use]
    pub(crate) fn new(deps: ReadDeps, settings: ReadSettings) -> Self {
        let ReadDeps { pool, inboxes, memberships, budgets, announcer, tasks } = deps;
        let ReadSettings { concurrency, deadline, inbox_ttl_s, has_notifications } = settings;
        let tails = Arc::new(TailCache::new(pool.clone()));
        let members = || Arc::clone(&memberships);
        let lists =
            ConversationLists::new(pool.clone(), inboxes.clone(), members(), Arc::clone(&tails), inbox_ttl_s);
        let totals = UnreadTotals::new(pool.clone(), members(), Arc::clone(&tails));
        let moved = MovedPositions::new(tails, announcer.clone(), tasks.clone());
        let positions =
            ReadPositions::new(pool.clone(), inboxes, members(), (moved, announcer), has_notifications);
        let pages = PageReader::new(pool.clone(), concurrency, tasks);
        Self { pool, memberships, pages, positions, lists, totals, budgets, deadline }
    }

    /// One page of a conversation as the frame of a pull's reply. `to`: the connection that it goes to.
    ///
    /// # Errors
    /// 403, 404, 429, 503.
    pub(crate) async fn page(
        &self,
        (payer, user): (&Payer, &UserId),
        conversation: &Conversation,
        request: PullRequest,
        to: Option<&ReplyTo>,
    ) -> Result<Utf8Bytes, ApiError> {
        let bytes = page_bytes(request.limit);
        let begun = self.begin(payer, cost::PULL, bytes, to).await?;
        let page = async {
            let floor = self.memberships.require_to_read(conversation, user).await?.floor();
            self.pages.read(page_key(conversation.clone(), user, request, floor)).await
        };
        let page = within(begun.deadline, page).await?;
        payer.spend(cost::of_bytes(page.len()));
        Ok(begun.bytes.attach(page))
    }

    /// What `read` reads of a conversation above the number that `user` sees from, as `render` shows it.
    ///
    /// # Errors
    /// 403, 404, 429, 503, and those of `render`
    pub(crate) async fn messages<'a, T, R>(
        &'a self,
        (payer, user): (&Payer, &UserId),
        conversation: &'a Conversation,
        read: impl FnOnce(&'a Pool, &'a Conversation, Seq) -> R,
        render: impl FnOnce(T) -> Result<Utf8Bytes, ApiError>,
    ) -> Result<Utf8Bytes, ApiError>
    where
        R: Future<Output = Result<T, shared::mysql::Error>>,
    {
        let begun = self.begin(payer, cost::PULL, page_bytes(SINGLE_READ_ENTRIES), None).await?;
        let found = async {
            let floor = self.memberships.require_to_read(conversation, user).await?.floor();
            read(&self.pool, conversation, floor).await.map_err(|error| ApiError::database(&error))
        };
        let rendered = render(within(begun.deadline, found).await?)?;
        payer.spend(cost::of_bytes(rendered.len()));
        Ok(begun.bytes.attach(rendered))
    }

    /// Answers a pull.
    pub(crate) async fn pull(
        self: Arc<Self>,
        context: RequestContext,
        conversation: Conversation,
        request: PullRequest,
        reply_to: ReplyTo,
    ) {
        let (payer, user) = (self.payer(&context.by), &context.by.user);
        let frame = self.page((&payer, user), &conversation, request, Some(&reply_to)).await;
        reply_to.send(frame.unwrap_or_else(|error| context.refuse(&error, Cmd::PULL, Some(&conversation))));
    }

    /// Answers an ack: moves the read position.
    pub(crate) async fn ack(
        self: Arc<Self>,
        context: RequestContext,
        conversation: Conversation,
        cursor: Seq,
        reply_to: ReplyTo,
    ) {
        let advance = async {
            let payer = self.payer(&context.by);
            let begun = self.begin(&payer, cost::ACK, 0, None).await?;
            let advance = self.positions.advance((&payer, &context.by), &conversation, cursor);
            within(begun.deadline, advance).await
        };
        reply_to.send(match advance.await {
            Ok(advance) => reply::ack(&context.name(&conversation), advance.position),
            Err(error) => context.refuse(&error, Cmd::ACK, Some(&conversation)),
        });
    }

    /// The read positions of at most `limit` members whose ids are above `cursor`, by id.
    ///
    /// # Errors
    /// 403, 404, 429, 503.
    pub(crate) async fn positions(
        &self,
        (payer, user): (&Payer, &UserId),
        conversation: &Conversation,
        cursor: &str,
        limit: u32,
    ) -> Result<Vec<ListedPosition>, ApiError> {
        let begun = self.begin(payer, cost::POSITIONS, 0, None).await?;
        let listed = within(begun.deadline, self.positions.list(user, conversation, cursor, limit)).await?;
        payer.spend(cost::of_count(listed.len()));
        Ok(listed)
    }

    /// Answers a sync.
    pub(crate) async fn sync(
        self: Arc<Self>,
        context: RequestContext,
        request: SyncRequest,
        reply_to: ReplyTo,
    ) {
        let frame = self.changes(&context.by, request, &reply_to).await;
        reply_to.send(frame.unwrap_or_else(|error| context.refuse(&error, Cmd::SYNC, None)));
    }

    async fn changes(
        &self,
        by: &Identity,
        request: SyncRequest,
        to: &ReplyTo,
    ) -> Result<Utf8Bytes, ApiError> {
        let payer = self.payer(by);
        let begun = self.begin(&payer, cost::LIST, page_bytes(request.limit), Some(to)).await?;
        let changes = self.lists.changes(&by.user, request.cursor, usize::from(request.limit));
        let listing = within(begun.deadline, Box::pin(changes)).await?;
        let frame = reply::sync(&listing, &by.user);
        payer.spend(cost_of(&listing, frame.len()));
        Ok(begun.bytes.attach(frame))
    }

    /// A user's conversations that changed before `before` (0: all), newest change first, as `render` shows them.
    ///
    /// # Errors
    /// 429, 503, and those of `render`
    pub(crate) async fn conversations(
        &self,
        (payer, user): (&Payer, &UserId),
        before: u64,
        limit: u16,
        render: impl FnOnce(&Listing) -> Result<Utf8Bytes, ApiError>,
    ) -> Result<Utf8Bytes, ApiError> {
        let begun = self.begin(payer, cost::LIST, page_bytes(limit), None).await?;
        let listing = self.lists.newest_first(user, before, usize::from(limit));
        let listing = within(begun.deadline, Box::pin(listing)).await?;
        let rendered = render(&listing)?;
        payer.spend(cost_of(&listing, rendered.len()));
        Ok(begun.bytes.attach(rendered))
    }

    /// The unread messages of `user` in conversations that it has not muted; `None` if they are not counted, because there are
    /// too many conversations, or the database fails.
    pub(crate) async fn unread_total(&self, user: &UserId) -> Option<u64> {
        match self.totals.of(user).await {
            Ok(total) => total,
            Err(error) => {
                tracing::warn!(user.id = %user, %error, "Cannot count the unread messages of user {user}");
                None
            }
        }
    }

    /// The profiles of `users` (each given once, at most 100), as `render` shows them.
    ///
    /// # Errors
    /// 429, 503, and those of `render`
    pub(crate) async fn profiles(
        &self,
        payer: &Payer,
        users: &[UserId],
        render: impl FnOnce(&[Profile]) -> Result<Utf8Bytes, ApiError>,
    ) -> Result<Utf8Bytes, ApiError> {
        let begun = self.begin(payer, cost::PROFILES, profiles_bytes(users.len()), None).await?;
        let found =
            async { profiles::find(&self.pool, users).await.map_err(|error| ApiError::database(&error)) };
        let rendered = render(&within(begun.deadline, found).await?)?;
        payer.spend(cost::of_count(users.len()).saturating_add(cost::of_bytes(rendered.len())));
        Ok(begun.bytes.attach(rendered))
    }

    /// Answers a heartbeat that has the cursor of the client's last sync.
    pub(crate) async fn heartbeat(self: Arc<Self>, by: Arc<Identity>, cursor: u64, reply_to: ReplyTo) {
        let answer = async {
            let payer = self.payer(&by);
            let _permit = payer.begin_read(cost::HEARTBEAT).await;
            let large_groups = self.memberships.merging_groups_of(&by.user);
            payer.spend(cost::of_count(large_groups.len()));
            self.lists.heartbeat(&by.user, cursor, &large_groups).await
        };
        reply_to.send(match tokio::time::timeout(HEARTBEAT_TIMEOUT, answer).await {
            Ok(Ok(next)) => reply::heartbeat_at(next),
            // Redis is unavailable, or the user has spent its budget: the client learns of changes with a later heartbeat.
            _ => reply::heartbeat(),
        });
    }

    fn payer(&self, by: &Identity) -> Payer {
        Payer::User(self.budgets.of(&by.user))
    }

    /// Reserves the bytes of a reply and begins a read for `payer`, who pays `units` for it.
    async fn begin(
        &self,
        payer: &Payer,
        units: u32,
        bytes: usize,
        to: Option<&ReplyTo>,
    ) -> Result<Begun, ApiError> {
        let deadline = Instant::now() + self.deadline;
        let begun = async {
            let connection = to.and_then(ReplyTo::connection_bytes);
            let bytes = match bytes {
                0 => ReplyBytes::default(),
                bytes => ReplyBytes::reserve(&self.budgets, payer, connection, bytes).await,
            };
            Begun { deadline, bytes, _permit: payer.begin_read(units).await }
        };
        timeout_at(deadline, begun).await.map_err(|_| payer.exceeded())
    }
}

fn cost_of(listing: &Listing, bytes: usize) -> u32 {
    cost::of_count(listing.examined)
        .saturating_add(cost::of_rows(listing.counted))
        .saturating_add(cost::of_entries(listing.entries.len()))
        .saturating_add(cost::of_bytes(bytes))
}

async fn within<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    timeout_at(deadline, answer).await.unwrap_or_else(|_| {
        let message = "the database did not answer in time: try again";
        Err(ApiError::unavailable(message, RetryDelay::StoreUnavailable))
    })
}

/// Equal keys make readers share a page, so a floor that the cursor already implies is left out.
fn page_key(conversation: Conversation, reader: &UserId, request: PullRequest, floor: Seq) -> PageKey {
    let reader = (conversation.kind() != Kind::Group).then(|| reader.clone());
    let PullRequest { cursor, limit, backward, changes } = request;
    if backward {
        return PageKey {
            conversation,
            reader,
            cursor,
            direction: Direction::Backward,
            limit,
            floor,
            changes,
        };
    }
    PageKey {
        conversation,
        reader,
        cursor: cursor.max(floor),
        direction: Direction::Forward,
        limit,
        floor: Seq::ZERO,
        changes,
    }
}
