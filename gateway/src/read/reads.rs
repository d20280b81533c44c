//! Answers read requests of all connections.

use std::sync::Arc;
use std::time::Duration;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::Pool;
use shared::mysql::positions::ListedPosition;
use shared::mysql::timeline::Direction;
use shared::redis::inbox::Inboxes;
use shared::shutdown::Shutdown;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::page_reader::{PageKey, PageReader};
use super::read_positions::ReadPositions;
use super::sync::ConversationLists;
use super::tail_cache::TailCache;
use crate::announce::Announcer;
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

/// The parts that reads use.
#[derive(Debug)]
pub(crate) struct ReadDeps {
    /// MySQL.
    pub(crate) pool: Pool,
    /// In Redis.
    pub(crate) inboxes: Inboxes,
    /// For permissions, and the large groups of connected users.
    pub(crate) memberships: Arc<Memberships>,
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
}

/// Handle for read requests.
#[derive(Debug)]
pub(crate) struct Reads {
    memberships: Arc<Memberships>,
    pages: PageReader,
    positions: ReadPositions,
    lists: ConversationLists,
    deadline: Duration,
}

impl Reads {
    /// Reads from `deps` within `settings`.
    #[must_use]
    pub(crate) fn new(deps: ReadDeps, settings: ReadSettings) -> Self {
        let ReadDeps { pool, inboxes, memberships, announcer, tasks } = deps;
        let ReadSettings { concurrency, deadline, inbox_ttl_s } = settings;
        let tails = Arc::new(TailCache::new(pool.clone()));
        let members = || Arc::clone(&memberships);
        let lists =
            ConversationLists::new(pool.clone(), inboxes.clone(), members(), Arc::clone(&tails), inbox_ttl_s);
        let positions = ReadPositions::new(pool.clone(), inboxes, members(), tails, announcer);
        let pages = PageReader::new(pool, concurrency, tasks);
        Self { memberships, pages, positions, lists, deadline }
    }

    /// One page of a conversation as the frame of a pull's reply.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn page(
        &self,
        user: &UserId,
        conversation: &Conversation,
        request: PullRequest,
    ) -> Result<Utf8Bytes, ApiError> {
        self.within_deadline(async {
            let floor = self.memberships.require(conversation, user).await?.floor();
            self.pages.read(page_key(conversation.clone(), request, floor)).await
        })
        .await
    }

    /// Answers a pull.
    pub(crate) async fn pull(
        self: Arc<Self>,
        context: RequestContext,
        conversation: Conversation,
        request: PullRequest,
        reply_to: ReplyTo,
    ) {
        let frame = self.page(&context.by.user, &conversation, request).await;
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
        let advance = self.positions.advance(&context.by, &conversation, cursor);
        reply_to.send(match self.within_deadline(advance).await {
            Ok(advance) => reply::ack(&conversation.wire(), advance.position),
            Err(error) => context.refuse(&error, Cmd::ACK, Some(&conversation)),
        });
    }

    /// The read positions of at most `limit` members whose ids are above `cursor`, by id.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn positions(
        &self,
        user: &UserId,
        conversation: &Conversation,
        cursor: &str,
        limit: u32,
    ) -> Result<Vec<ListedPosition>, ApiError> {
        self.within_deadline(self.positions.list(user, conversation, cursor, limit)).await
    }

    /// Answers a sync.
    pub(crate) async fn sync(
        self: Arc<Self>,
        context: RequestContext,
        request: SyncRequest,
        reply_to: ReplyTo,
    ) {
        let changes = self.lists.changes(&context.by.user, request.cursor, usize::from(request.limit));
        let listing = self.within_deadline(Box::pin(changes)).await;
        reply_to.send(match listing {
            Ok(listing) => reply::sync(&listing),
            Err(error) => context.refuse(&error, Cmd::SYNC, None),
        });
    }

    /// A user's conversations that changed before `before` (0: all), newest change first.
    ///
    /// # Errors
    /// 503
    pub(crate) async fn conversations(
        &self,
        user: &UserId,
        before: u64,
        limit: usize,
    ) -> Result<Listing, ApiError> {
        self.within_deadline(Box::pin(self.lists.newest_first(user, before, limit))).await
    }

    /// Answers a heartbeat that has the cursor of the client's last sync.
    pub(crate) async fn heartbeat(self: Arc<Self>, by: Arc<Identity>, cursor: u64, reply_to: ReplyTo) {
        let large_groups = self.memberships.merging_groups_of(&by.user);
        let answer = self.lists.heartbeat(&by.user, cursor, &large_groups);
        reply_to.send(match tokio::time::timeout(HEARTBEAT_TIMEOUT, answer).await {
            Ok(Ok(next)) => reply::heartbeat_at(next),
            // Redis is unavailable: the client learns of changes with a later heartbeat.
            _ => reply::heartbeat(),
        });
    }

    async fn within_deadline<T>(
        &self,
        answer: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        tokio::time::timeout(self.deadline, answer).await.unwrap_or_else(|_| {
            let message = "the database did not answer in time: try again";
            Err(ApiError::unavailable(message, RetryDelay::StoreUnavailable))
        })
    }
}

/// Equal keys make readers share a page, so a floor that the cursor already implies is left out.
fn page_key(conversation: Conversation, request: PullRequest, floor: Seq) -> PageKey {
    let PullRequest { cursor, limit, backward } = request;
    if backward {
        return PageKey { conversation, cursor, direction: Direction::Backward, limit, floor };
    }
    PageKey {
        conversation,
        cursor: cursor.max(floor),
        direction: Direction::Forward,
        limit,
        floor: Seq::ZERO,
    }
}
