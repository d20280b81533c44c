//! Typing notices (cmd 8): sent to connected members, never stored, never repeated.

use std::sync::Arc;

use proto::v1;
use shared::conversation::Conversation;
use shared::ids::{UserId, unix_millis};
use shared::message::origin_to_wire;
use shared::permission::Action;

use crate::announce::Announcer;
use crate::membership::Memberships;
use crate::outbox::ReplyTo;
use crate::rates::{Rate, Rates};
use crate::wire::api_error::ApiError;
use crate::wire::context::RequestContext;
use crate::wire::reply;
use crate::wire::request::Cmd;

/// Notices per second and user.
const PER_SECOND: u32 = 2;
/// Notices of one user at once after a pause.
const BURST: u32 = 5;

/// Checks typing notices and announces them.
#[derive(Debug)]
pub(crate) struct Typing {
    memberships: Arc<Memberships>,
    announcer: Announcer,
    rates: Rates<UserId>,
}

impl Typing {
    /// Announces through `announcer`.
    #[must_use]
    pub(crate) fn new(memberships: Arc<Memberships>, announcer: Announcer) -> Self {
        Self { memberships, announcer, rates: Rates::new(Rate::per_second(PER_SECOND, BURST)) }
    }

    /// Announces a notice and answers it.
    pub(crate) async fn notice(
        self: Arc<Self>,
        context: RequestContext,
        conversation: Conversation,
        reply_to: ReplyTo,
    ) {
        let frame = match self.announce(&context, &conversation).await {
            Ok(()) => reply::typing(&context.name(&conversation)),
            Err(refusal) => context.refuse(&refusal, Cmd::TYPING, Some(&conversation)),
        };
        reply_to.send(frame);
    }

    async fn announce(&self, context: &RequestContext, conversation: &Conversation) -> Result<(), ApiError> {
        let user = &context.by.user;
        if let Err(retry_after_ms) = self.rates.take(user) {
            let message = "too many typing notices: at most 2 a second".to_owned();
            return Err(ApiError::RateLimited { message, retry_after_ms });
        }
        self.memberships.require(conversation, user).await?.check(Action::Send, unix_millis)?;
        // In a large group, notices would be frequent and of no use.
        if !self.memberships.merges_head(conversation) {
            self.announcer.announce(v1::event::Kind::Typing(v1::Typing {
                conversation: conversation.key().to_owned(),
                user_id: user.as_str().to_owned(),
                origin: Some(origin_to_wire(context.by.origin)),
            }));
        }
        Ok(())
    }
}
