//! The entrance for reads.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use proto::v1;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::message::origin_to_wire;
use shared::mysql::Pool;
use shared::mysql::positions::{self, Advance, ListedPosition};
use shared::mysql::timeline::Direction;
use shared::redis::inbox::{Inboxes, Note, Touch};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::pull::Pages;
use super::shared_reads::{Page, SharedReads};
use super::sync::Syncs;
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

/// How long a heartbeat waits for the newest version; without it, it is answered plainly.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(1);

/// The entrance for reads, shared by all connections.
#[derive(Debug)]
pub struct Reads {
    pool: Pool,
    memberships: Arc<Memberships>,
    announcer: Announcer,
    inboxes: Inboxes,
    shared: Arc<SharedReads>,
    syncs: Syncs,
    deadline: Duration,
}

/// How reads are done.
#[derive(Debug, Clone, Copy)]
pub struct ReadSettings {
    /// Queries for pages that run at once; the others wait, identical ones as one.
    pub concurrent: usize,
    /// Every read is answered within this time.
    pub deadline: Duration,
    /// As in [`Inboxes`].
    pub inbox_ttl_s: u32,
}

impl Reads {
    /// Reads from `pool` and `inboxes`.
    #[must_use]
    pub fn new(
        pool: Pool,
        memberships: Arc<Memberships>,
        announcer: Announcer,
        inboxes: Inboxes,
        settings: ReadSettings,
    ) -> Self {
        let syncs = Syncs::new(pool.clone(), inboxes.clone(), Arc::clone(&memberships), settings.inbox_ttl_s);
        let pages = Arc::new(Pages::new(pool.clone(), settings.concurrent));
        let read = move |page: Page, for_several| {
            let pages = Arc::clone(&pages);
            async move { pages.read(&page, for_several).await }.boxed()
        };
        let shared = SharedReads::new(Box::new(read));
        Self { pool, memberships, announcer, inboxes, shared, syncs, deadline: settings.deadline }
    }

    /// One page of a conversation as the frame of a pull's answer.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub async fn page(
        &self,
        user: &UserId,
        conversation: &Conversation,
        request: PullRequest,
    ) -> Result<Utf8Bytes, ApiError> {
        self.within_deadline(async {
            let floor = self.memberships.require(conversation, user).await?.floor();
            let page = match request.backward {
                false => Page {
                    conversation: conversation.clone(),
                    cursor: request.cursor.max(floor),
                    direction: Direction::Forward,
                    limit: request.limit,
                    floor: Seq::ZERO,
                },
                true => Page {
                    conversation: conversation.clone(),
                    cursor: request.cursor,
                    direction: Direction::Backward,
                    limit: request.limit,
                    floor,
                },
            };
            Arc::clone(&self.shared).read(page).await
        })
        .await
    }

    /// Answers a pull.
    pub async fn pull(
        self: Arc<Self>,
        asked: RequestContext,
        conversation: Conversation,
        request: PullRequest,
        reply_to: ReplyTo,
    ) {
        let frame = self.page(&asked.by.user, &conversation, request).await;
        reply_to.send(frame.unwrap_or_else(|refusal| asked.refuse(&refusal, Cmd::PULL, Some(&conversation))));
    }

    /// Moves a reading position and tells the user's other connections, and the other one of a private chat.
    pub async fn ack(
        self: Arc<Self>,
        asked: RequestContext,
        conversation: Conversation,
        cursor: Seq,
        reply_to: ReplyTo,
    ) {
        let moved = self.within_deadline(self.advance(&asked.by, &conversation, cursor)).await;
        reply_to.send(match moved {
            Ok(advance) => reply::ack(&conversation.wire(), advance.position),
            Err(refusal) => asked.refuse(&refusal, Cmd::ACK, Some(&conversation)),
        });
    }

    async fn advance(
        &self,
        by: &Identity,
        conversation: &Conversation,
        cursor: Seq,
    ) -> Result<Advance, ApiError> {
        let standing = self.memberships.require(conversation, &by.user).await?;
        let advance = positions::advance(&self.pool, &by.user, conversation, cursor)
            .await
            .map_err(|e| ApiError::database(&e))?;
        if !advance.moved {
            return Ok(advance);
        }
        let note = Note { user: &by.user, conversation, touch: Touch::Other };
        if let Err(error) = self.inboxes.touch(std::iter::once(note)).await {
            tracing::warn!(%error, "a reading position is not in the inbox of its user");
        }
        let counted_from = advance.position.max(standing.history.join_seq);
        let summary = self.syncs.tails.summary(conversation, advance.position, &by.user, counted_from).await;
        self.announcer.announce(v1::event::Kind::PositionMoved(v1::PositionMoved {
            conversation: conversation.key().to_owned(),
            user_id: by.user.as_str().to_owned(),
            seq: advance.position.0,
            origin: Some(origin_to_wire(by.origin)),
            unread: summary.ok().map(|summary| summary.unread),
        }));
        Ok(advance)
    }

    /// How far the members of a conversation have read, by the order of their ids.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub async fn positions(
        &self,
        user: &UserId,
        conversation: &Conversation,
        cursor: &str,
        limit: u32,
    ) -> Result<Vec<ListedPosition>, ApiError> {
        self.within_deadline(async {
            self.memberships.require(conversation, user).await?;
            let shared::conversation::Kind::Private(lo, hi) = conversation.kind() else {
                return positions::of_group(&self.pool, conversation, cursor, limit)
                    .await
                    .map_err(|e| ApiError::database(&e));
            };
            let mut both = Vec::new();
            for id in if lo == hi { vec![lo] } else { vec![lo, hi] } {
                let Ok(reader) = UserId::parse(id) else { continue };
                let read = positions::of_user(&self.pool, &reader, &[conversation]).await;
                let read = read.map_err(|e| ApiError::database(&e))?;
                let seq = read.get(conversation).copied().unwrap_or(Seq::ZERO);
                both.push(ListedPosition { user_id: id.to_owned(), seq });
            }
            both.retain(|position| position.user_id.as_str() > cursor);
            both.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Ok(both)
        })
        .await
    }

    /// Answers a sync.
    pub async fn sync(self: Arc<Self>, asked: RequestContext, request: SyncRequest, reply_to: ReplyTo) {
        let changes = self.syncs.changes(&asked.by.user, request.cursor, usize::from(request.limit));
        let listing = self.within_deadline(Box::pin(changes)).await;
        reply_to.send(match listing {
            Ok(listing) => reply::sync(&listing),
            Err(refusal) => asked.refuse(&refusal, Cmd::SYNC, None),
        });
    }

    /// A user's conversations, those that changed last before `before` (0: now) first.
    ///
    /// # Errors
    /// 503
    pub async fn conversations(&self, user: &UserId, before: u64, limit: usize) -> Result<Listing, ApiError> {
        self.within_deadline(Box::pin(self.syncs.newest_first(user, before, limit))).await
    }

    /// Answers a heartbeat that says where the client's last sync ended.
    pub async fn heartbeat(self: Arc<Self>, by: Arc<Identity>, cursor: u64, reply_to: ReplyTo) {
        let large = self.memberships.merging_groups_of(&by.user);
        let newest = tokio::time::timeout(HEARTBEAT_PATIENCE, self.syncs.latest(&by.user, &large)).await;
        reply_to.send(match newest {
            Ok(Ok(newest)) => reply::heartbeat_at(newest.max(cursor)),
            // Redis is away: the client learns it at the next one.
            _ => reply::heartbeat(),
        });
    }

    async fn within_deadline<T>(
        &self,
        answer: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let late = || {
            let message = "the database did not answer in time: try again";
            Err(ApiError::unavailable(message, RetryDelay::StoreUnavailable))
        };
        tokio::time::timeout(self.deadline, answer).await.unwrap_or_else(|_| late())
    }
}
