//! Messages on their way through the hook before sending, between the checks and the queue of their shard.
//!
//! Each one waits in a task of its own, so that the connection reads on. [`lanes`](super::lanes) keeps the order.

use std::sync::Arc;
use std::time::Duration;

use shared::message::Message;
use shared::metrics::GATEWAY_HOOK_BAD_REPLACEMENTS;
use shared::traces::SpanKind;
use tokio::time::{Instant, timeout_at};

use super::admission::{Admitted, Earlier, Sends};
use super::in_flight::try_again;
use super::lanes::LaneKey;
use crate::hook::{Decision, HookGauges, Question};
use crate::wire::api_error::ApiError;
use crate::wire::hook::Replacement;

/// The time from the decision to the batch: this part of the time for a batch.
const QUEUE_PART: u32 = 20;
/// A reply is sent by this time before its deadline.
const REPLY_TIME: Duration = Duration::from_millis(100);

/// The sentence about a replacement that breaks a rule.
const BAD_REPLACEMENT: &str =
    "this message is not allowed as it is: it was to be replaced by one that breaks the rules of messages";

/// The place of one message in its lane. It is left when dropped, so that nobody waits for a task that has ended.
struct Place {
    sends: Arc<Sends>,
    key: LaneKey,
    number: u64,
    is_left: bool,
}

impl Place {
    /// The message leaves its lane for the queue of its shard, after those before it.
    fn decided(mut self, admitted: Admitted) {
        self.is_left = true;
        let sends = &self.sends;
        // Queued under the lock: no later message of the lane overtakes.
        sends.lanes.lock().decided(&self.key, self.number, admitted, |due| sends.queue(due));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_left {
            let sends = &self.sends;
            sends.lanes.lock().gone(&self.key, self.number, |due| sends.queue(due));
        }
    }
}

impl Sends {
    /// Queues a message that its sender may send, when the hook allows it.
    pub(super) fn pass(self: &Arc<Self>, admitted: Admitted) {
        if self.hook.is_used() { self.pass_hook(admitted) } else { self.queue(admitted) }
    }

    /// What gauges show, and the messages that wait; `None` if the hook was never on.
    #[must_use]
    pub(crate) fn hook_gauges(&self) -> Option<(HookGauges, usize)> {
        self.hook.gauges().map(|gauges| (gauges, self.lanes.lock().len()))
    }

    fn pass_hook(self: &Arc<Self>, admitted: Admitted) {
        let key = (admitted.origin, admitted.message.conversation.clone());
        let Some(question) = self.hook.question(&admitted.message) else {
            let due = self.lanes.lock().follow(&key, admitted);
            due.into_iter().for_each(|admitted| self.queue(admitted));
            return;
        };
        let number = self.lanes.lock().enter(&key);
        let place = Place { sends: Arc::clone(self), key, number, is_left: false };
        self.hook.tasks().spawn(Box::pin(Arc::clone(self).wait_for_hook(place, admitted, question)));
    }

    async fn wait_for_hook(self: Arc<Self>, place: Place, mut admitted: Admitted, question: Question) {
        let begin = Instant::now();
        let until = admitted.reply.deadline() - self.limits.batch - self.limits.batch / QUEUE_PART;
        let decision = self.hook.decide(question, until).await;
        if let Some(send) = admitted.reply.trace() {
            send.trace().child("hook", SpanKind::Client).lasted(begin.elapsed()).record();
        }
        let (refusal, is_final) = match decision {
            Decision::Allow => return place.decided(admitted),
            Decision::Replace(replacement) => match self.replace(&mut admitted, &replacement) {
                Ok(()) => return place.decided(admitted),
                Err(refusal) => (refusal, true),
            },
            Decision::Refuse(sentence) => (ApiError::Forbidden(sentence), true),
            Decision::TryAgain => (
                try_again("messages are checked before they are sent, and the check is not available"),
                false,
            ),
        };
        drop(place);
        self.refuse_unless_sent(admitted, refusal, is_final).await;
    }

    /// Replaces what the sender wrote.
    ///
    /// # Errors
    /// 403: the replacement breaks a rule. The message is not sent as it is, because it was not allowed.
    fn replace(&self, admitted: &mut Admitted, replacement: &Replacement) -> Result<(), ApiError> {
        let mut message = admitted.message.clone();
        let replaced = replacement
            .apply(&mut message)
            .and_then(|replaced| match self.features.require_for(&message) {
                Ok(()) => Ok(replaced),
                Err(refusal) => Err(refusal.message().to_owned()),
            })
            .map_err(|why| {
                metrics::counter!(GATEWAY_HOOK_BAD_REPLACEMENTS).increment(1);
                let Message { conversation, msg_id, .. } = &message;
                tracing::debug!(
                    conversation.id = %conversation, msg.id = %msg_id, error = why,
                    "The replacement of {msg_id} by the hook breaks a rule; the message is refused"
                );
                ApiError::Forbidden(BAD_REPLACEMENT.to_owned())
            })?;
        admitted.message = message;
        if let Some(replaced) = replaced {
            admitted.reply.replaced(replaced);
        }
        Ok(())
    }

    /// Refuses the message, unless an earlier attempt of it was sent: what is stored is answered as stored.
    async fn refuse_unless_sent(&self, admitted: Admitted, refusal: ApiError, is_final: bool) {
        if !admitted.may_be_retry {
            return admitted.reply.refuse(&refusal);
        }
        let until = admitted.reply.deadline() - REPLY_TIME;
        let late = |_| Err(try_again("the database did not answer in time"));
        match timeout_at(until, self.sent_earlier(&admitted, is_final)).await.unwrap_or_else(late) {
            Ok(Some(earlier)) => admitted.reply.answer_earlier(earlier.seq, earlier.content_differs),
            Ok(None) => admitted.reply.refuse(&refusal),
            Err(refusal) => admitted.reply.refuse(&refusal),
        }
    }

    /// The earlier attempt, if it is stored. If the refusal is not final, only as far as Redis remembers it: that costs the
    /// database nothing for new messages, while the hook decides about none.
    ///
    /// # Errors
    /// 503 if an earlier attempt may be on its way to the database, or a store is unavailable; 409.
    async fn sent_earlier(&self, admitted: &Admitted, is_final: bool) -> Result<Option<Earlier>, ApiError> {
        let Message { conversation, sender, msg_id, .. } = &admitted.message;
        let known = self.sequence.known(conversation, sender, msg_id).await.map_err(|error| {
            tracing::warn!(
                conversation.id = %conversation, msg.id = %msg_id, %error,
                "Redis did not say whether {msg_id} has a number; the message is refused with 503"
            );
            try_again("message numbers are not available")
        });
        if !is_final && !matches!(known, Ok(Some(_))) {
            return Ok(None);
        }
        if let Some(stored) = self.stored(admitted).await? {
            return Ok(Some(stored));
        }
        match known? {
            Some(_) => Err(try_again("an earlier attempt of this message may be on its way")),
            None => Ok(None),
        }
    }
}
