//! Collects what the checks of the processes log, so that a command can show it instead.

use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// A line that a process would log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    /// It is an error, not a warning.
    pub(crate) is_error: bool,
    /// The message, with its values.
    pub(crate) text: String,
}

/// The lines since the last call of [`take`](Self::take). Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<Logged>>>);

impl Warnings {
    /// Collects the warnings and errors of this process from now on.
    pub(crate) fn collect() -> Self {
        let warnings = Self::default();
        // Another subscriber is there only in tests.
        let _ = tracing_subscriber::registry().with(warnings.clone()).try_init();
        warnings
    }

    /// The lines since the last call.
    pub(crate) fn take(&self) -> Vec<Logged> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // The libraries' own lines name neither the setting nor the consequence.
        let is_ours = event.metadata().target().starts_with("shared");
        if is_ours && *event.metadata().level() <= Level::WARN {
            let mut text = Text::default();
            event.record(&mut text);
            let is_error = *event.metadata().level() == Level::ERROR;
            self.0.lock().push(Logged { is_error, text: text.message + &text.values });
        }
    }
}

#[derive(Default)]
struct Text {
    message: String,
    values: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String never fails.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.values, "; {} = {value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_of_the_shared_parts_are_collected_with_their_values() {
        let warnings = Warnings::default();
        let subscriber = tracing_subscriber::registry().with(warnings.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "shared::mysql", max = 3, "It is too low");
            tracing::error!(target: "shared::amqp", "It deletes messages");
            tracing::info!(target: "shared::amqp", "It is fine");
            tracing::warn!(target: "sqlx", "slow");
        });
        let line = |is_error, text: &str| Logged { is_error, text: text.to_owned() };
        assert_eq!(
            warnings.take(),
            [line(false, "It is too low; max = 3"), line(true, "It deletes messages")]
        );
        assert_eq!(warnings.take(), []);
    }
}
