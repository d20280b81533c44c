//! How long it takes from the admission of a message until its commit is pushed, by the clock of one gateway.
//!
//! The gateway that admits a message also gets the event of its commit, so no clock of another host takes part. Only a
//! sample is measured: the oldest message of a batch, of a few conversations at a time.

use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::message::Numbered;
use tokio::time::Instant;

/// Conversations with a message that is being measured. Further ones wait for a place.
const SAMPLES_MAX: usize = 32;
/// A message whose commit was not pushed by then is given up: its event was lost, it was refused, or got another number.
const SAMPLE_TTL: Duration = Duration::from_secs(60);

/// The messages that are being measured.
#[derive(Debug, Default)]
pub(crate) struct PushTimer {
    samples: Mutex<AHashMap<Conversation, Sample>>,
}

#[derive(Debug)]
struct Sample {
    seq: Seq,
    admitted: Instant,
}

impl PushTimer {
    /// `message`, which was admitted at that moment, is about to be published.
    pub(super) fn admitted(&self, message: &Numbered, admitted: Instant) {
        let mut samples = self.samples.lock();
        if samples.len() < SAMPLES_MAX && !samples.contains_key(&message.conversation) {
            samples.insert(message.conversation.clone(), Sample { seq: message.seq, admitted });
        }
    }

    /// `message` was not published.
    pub(super) fn failed(&self, message: &Numbered) {
        self.take(&message.conversation, message.seq, message.seq);
    }

    /// The messages of `conversation` from `first` to `last` were pushed.
    pub(crate) fn pushed(&self, conversation: &Conversation, first: Seq, last: Seq) {
        if let Some(admitted) = self.take(conversation, first, last) {
            metrics::histogram!(shared::metrics::PUSH_TIME).record(admitted.elapsed());
        }
    }

    /// When the message that is measured was admitted, if it is one of those.
    fn take(&self, conversation: &Conversation, first: Seq, last: Seq) -> Option<Instant> {
        let mut samples = self.samples.lock();
        // Later messages: its event was lost, or it has another number.
        let seq = samples.get(conversation)?.seq;
        let sample = if seq <= last { samples.remove(conversation) } else { None };
        sample.filter(|_| first <= seq).map(|sample| sample.admitted)
    }

    pub(super) fn expire(&self, now: Instant) {
        self.samples.lock().retain(|_, sample| now.duration_since(sample.admitted) < SAMPLE_TTL);
    }
}

#[cfg(test)]
mod tests {
    use shared::message::fixture::numbered;

    use super::*;

    fn group(n: usize) -> Conversation {
        Conversation::from_key(&format!("group_{n}")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_measured_until_the_event_that_has_it() {
        let (timer, begin) = (PushTimer::default(), Instant::now());
        timer.admitted(&numbered("group_1", 7, "alice", "m7"), begin);
        timer.admitted(&numbered("group_1", 8, "alice", "m8"), begin + Duration::from_secs(1));
        assert_eq!(timer.take(&group(2), Seq(7), Seq(7)), None, "another conversation");
        assert_eq!(timer.take(&group(1), Seq(5), Seq(6)), None, "an earlier one");
        assert_eq!(timer.take(&group(1), Seq(6), Seq(9)), Some(begin));
        assert_eq!(timer.take(&group(1), Seq(6), Seq(9)), None, "once");
        timer.admitted(&numbered("group_1", 9, "alice", "m9"), begin);
        timer.failed(&numbered("group_1", 9, "alice", "m9"));
        assert_eq!(timer.take(&group(1), Seq(9), Seq(9)), None, "it was not published");
        timer.admitted(&numbered("group_1", 10, "alice", "m10"), begin);
        assert_eq!(timer.take(&group(1), Seq(11), Seq(12)), None, "its event was lost");
        assert!(timer.samples.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_conversations_are_measured_at_a_time_and_none_for_ever() {
        let (timer, begin) = (PushTimer::default(), Instant::now());
        for n in 0..SAMPLES_MAX + 5 {
            timer.admitted(&numbered(&format!("group_{n}"), 1, "alice", "m"), begin);
        }
        assert_eq!(timer.samples.lock().len(), SAMPLES_MAX);
        timer.expire(begin + SAMPLE_TTL - Duration::from_secs(1));
        assert_eq!(timer.samples.lock().len(), SAMPLES_MAX);
        timer.expire(begin + SAMPLE_TTL);
        assert!(timer.samples.lock().is_empty());
    }
}
