//! One call of a push service: within a timeout, with a short response.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use shared::error_text::error_line;

use crate::outcome::Outcome;

/// Longest response that is read; only errors have one of interest.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Longest part of a response that a reason contains.
const EXCERPT_CHARS: usize = 200;
/// Longest delay that a push service may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// A response of a push service.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    /// The header `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Another attempt later, with the reason.
    pub(crate) fn retry(&self) -> Outcome {
        Outcome::Retry { after: self.retry_after, reason: self.reason() }
    }

    /// The status, and the beginning of the body on one line.
    pub(crate) fn reason(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
        let line = words.collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            return format!("status {}", self.status.as_u16());
        }
        let excerpt: String = line.chars().take(EXCERPT_CHARS).collect();
        format!("status {}: {excerpt}", self.status.as_u16())
    }
}

/// Sends `request`, and reads the response, within `timeout`.
///
/// # Errors
/// The outcome of a call without a response. Its reason has no URL, since an endpoint is a secret of its device.
pub(crate) async fn call(request: RequestBuilder, timeout: Duration) -> Result<Response, Outcome> {
    let response = request.timeout(timeout).send().await.map_err(|error| failed(error, timeout))?;
    let status = response.status();
    let retry_after = retry_after(response.headers(), SystemTime::now());
    // The status has decided already; a body that breaks off only shortens the reason.
    let body = beginning(response).await;
    Ok(Response { status, retry_after, body })
}

fn failed(error: reqwest::Error, timeout: Duration) -> Outcome {
    if error.is_timeout() {
        return Outcome::retry(format!("no answer within {} ms", timeout.as_millis()));
    }
    let is_permanent = error.is_builder();
    let reason = error_line(&error.without_url());
    if is_permanent { Outcome::Rejected(reason) } else { Outcome::retry(reason) }
}

async fn beginning(mut response: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let rest = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(rest)]);
        if body.len() == BODY_BYTES_MAX {
            break;
        }
    }
    body
}

/// The header `Retry-After` of an answer that came at `now`: seconds or an HTTP date (RFC 9110 §10.2.3), a day at most.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(delay.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999", Some(24 * 3_600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let body = format!("<p>\r\nToo\u{7} many {}", "x".repeat(1_000)).into_bytes();
        let response = Response { status: StatusCode::TOO_MANY_REQUESTS, retry_after: None, body };
        assert!(response.reason().starts_with("status 429: <p> Too many xxx"));
        assert_eq!(response.reason().len(), "status 429: ".len() + EXCERPT_CHARS);
    }
}
