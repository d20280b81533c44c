//! Answers of a push service, and answers that a test asks for.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

/// An answer of a push service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) delay: Duration,
}

impl Answer {
    /// An answer without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), delay: Duration::ZERO }
    }

    /// An answer with a body of JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self { body: body.to_string(), ..Self::status(status) }.header("content-type", "application/json")
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with `Retry-After`: seconds or an HTTP date.
    #[must_use]
    pub fn retry_after(self, value: &str) -> Self {
        self.header("retry-after", value)
    }

    /// The same after a delay.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// Answers that a test asks for instead of the usual ones.
#[derive(Debug, Default)]
pub(super) struct Script(Mutex<(VecDeque<Answer>, Option<Answer>)>);

impl Script {
    pub(super) fn next(&self, answer: Answer) {
        self.0.lock().0.push_back(answer);
    }

    pub(super) fn always(&self, answer: Option<Answer>) {
        self.0.lock().1 = answer;
    }

    /// The answer to one request, if it is not the usual one.
    pub(super) fn take(&self) -> Option<Answer> {
        let mut script = self.0.lock();
        script.0.pop_front().or_else(|| script.1.clone())
    }
}
