//! A look at what the server sends before it is parsed.

/// Sees everything that the server sends to a [`Connection`](super::Connection) or [`Http`](super::Http), before it is
/// parsed: to log it, or to check it against a specification. What it refuses becomes [`Error::Rejected`](super::Error).
pub type Inspector = fn(&Received<'_>) -> Result<(), String>;

/// What the server sent.
#[derive(Debug, Clone, Copy)]
pub enum Received<'a> {
    /// The text of a frame.
    Frame(&'a str),
    /// The answer to a call.
    Answer(Exchange<'a>),
}

/// An HTTP call and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query string as they were sent.
    pub path: &'a str,
    /// The body of the request.
    pub request: Option<&'a serde_json::Value>,
    /// The status of the answer.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: Option<&'a str>,
    /// Its body.
    pub body: &'a str,
}
