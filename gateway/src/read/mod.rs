//! Answering reads: pulls (cmd 3) and reading positions (cmd 4).

mod pull;
mod shared_reads;

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use shared::conversation::Conversation;
use shared::envelope::origin_to_wire;
use shared::ids::Seq;
use shared::mysql::timeline::Direction;
use shared::mysql::{Pool, positions};

use crate::announce::Announcer;
use crate::connection::Identity;
use crate::membership::{Memberships, database_away};
use crate::outbox::ReplyTo;
use crate::wire::refusal::Refusal;
use crate::wire::reply;
use crate::wire::request::{Cmd, PullRequest};
use shared_reads::{Page, SharedReads};

/// The entrance for reads, shared by all connections.
#[derive(Debug)]
pub struct Reads {
    pool: Pool,
    memberships: Arc<Memberships>,
    announcer: Announcer,
    shared: Arc<SharedReads>,
    deadline: Duration,
}

impl Reads {
    /// At most `concurrent` queries run at once; the others wait, identical ones as one.
    #[must_use]
    pub fn new(
        pool: Pool,
        memberships: Arc<Memberships>,
        announcer: Announcer,
        concurrent: usize,
        deadline: Duration,
    ) -> Self {
        Self { shared: SharedReads::new(pool.clone(), concurrent), pool, memberships, announcer, deadline }
    }

    /// Answers a pull.
    pub async fn pull(
        self: Arc<Self>,
        by: Arc<Identity>,
        conversation: Conversation,
        request: PullRequest,
        reply_to: ReplyTo,
    ) {
        let direction = if request.backward { Direction::Backward } else { Direction::Forward };
        let page = Page {
            conversation: conversation.clone(),
            cursor: request.cursor,
            direction,
            limit: request.limit,
        };
        let answer = async {
            self.memberships.require(&conversation, &by.user).await?;
            Arc::clone(&self.shared).read(page).await
        };
        let frame = self.within_deadline(answer).await;
        reply_to
            .send(frame.unwrap_or_else(|refusal| refusal.frame(Cmd::PULL, None, Some(&conversation.wire()))));
    }

    /// Moves a reading position and tells the user's other connections.
    pub async fn ack(
        self: Arc<Self>,
        by: Arc<Identity>,
        conversation: Conversation,
        cursor: Seq,
        reply_to: ReplyTo,
    ) {
        let answer = async {
            self.memberships.require(&conversation, &by.user).await?;
            positions::advance(&self.pool, &by.user, &conversation, cursor)
                .await
                .map_err(|e| database_away(&e))
        };
        match self.within_deadline(answer).await {
            Ok(advance) => {
                if advance.moved {
                    self.announcer.announce(v1::event::Kind::PositionMoved(v1::PositionMoved {
                        conversation: conversation.key().to_owned(),
                        user_id: by.user.as_str().to_owned(),
                        seq: advance.position.0,
                        origin: Some(origin_to_wire(by.origin)),
                        unread: None,
                    }));
                }
                reply_to.send(reply::ack(&conversation.wire(), advance.position));
            }
            Err(refusal) => reply_to.send(refusal.frame(Cmd::ACK, None, Some(&conversation.wire()))),
        }
    }

    async fn within_deadline<T>(
        &self,
        answer: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let late = || {
            let message = "the database did not answer in time: try again".to_owned();
            Err(Refusal::Overloaded { message, retry_after_ms: 1_000 })
        };
        tokio::time::timeout(self.deadline, answer).await.unwrap_or_else(|_| late())
    }
}
