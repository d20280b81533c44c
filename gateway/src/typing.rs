//! "… is writing" (cmd 8): passed on to whoever is connected, never stored, never repaired.

use std::sync::Arc;

use proto::v1;
use shared::conversation::Conversation;
use shared::envelope::origin_to_wire;
use shared::ids::{UserId, unix_millis};
use shared::permission::Action;

use crate::announce::Announcer;
use crate::membership::Memberships;
use crate::outbox::ReplyTo;
use crate::rates::Rates;
use crate::wire::api_error::ApiError;
use crate::wire::context::RequestContext;
use crate::wire::reply;
use crate::wire::request::Cmd;

/// Notices per second and user.
const PER_SECOND: u32 = 2;
/// Notices at once after a pause.
const BURST: u32 = 5;

/// Passes notices on.
#[derive(Debug)]
pub struct Typing {
    memberships: Arc<Memberships>,
    announcer: Announcer,
    rates: Option<Rates<UserId>>,
}

impl Typing {
    /// Notices go out through `announcer`.
    #[must_use]
    pub fn new(memberships: Arc<Memberships>, announcer: Announcer) -> Self {
        Self { memberships, announcer, rates: Rates::new(PER_SECOND, BURST) }
    }

    /// Answers one notice.
    pub async fn notice(
        self: Arc<Self>,
        asked: RequestContext,
        conversation: Conversation,
        reply_to: ReplyTo,
    ) {
        let frame = match self.pass_on(&asked, &conversation).await {
            Ok(()) => reply::typing(&conversation.wire()),
            Err(refusal) => refusal.frame(Cmd::TYPING, asked.msg_id.as_deref(), Some(&conversation.wire())),
        };
        reply_to.send(frame);
    }

    async fn pass_on(&self, asked: &RequestContext, conversation: &Conversation) -> Result<(), ApiError> {
        let user = &asked.by.user;
        if let Some(Err(retry_after_ms)) = self.rates.as_ref().map(|rates| rates.take(user)) {
            let message = "one notice every few seconds is enough".to_owned();
            return Err(ApiError::RateLimited { message, retry_after_ms });
        }
        self.memberships.require(conversation, user).await?.check(Action::Send, unix_millis)?;
        // Nobody wants to know it of thousands.
        if !self.memberships.merges_head(conversation) {
            self.announcer.announce(v1::event::Kind::Typing(v1::Typing {
                conversation: conversation.key().to_owned(),
                user_id: user.as_str().to_owned(),
                origin: Some(origin_to_wire(asked.by.origin)),
            }));
        }
        Ok(())
    }
}
