//! Responses of HTTP calls.

use bytes::Bytes;
use serde::Serialize;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use warp::http::StatusCode;
use warp::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use warp::reply::{Reply as _, Response};

use crate::wire::api_error::ApiError;

/// The result of a call.
pub(crate) type Answer = Result<Response, ApiError>;

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<&'a str>,
}

impl<'a> ErrorBody<'a> {
    fn new(status: StatusCode, message: &'a str) -> Self {
        Self { code: status.as_u16(), message, retry_after_ms: None, next_cursor: None }
    }
}

/// 200 with `body` as JSON.
///
/// # Errors
/// 500 if `body` cannot be serialized, which does not happen for strings and numbers.
pub(crate) fn json(body: &impl Serialize) -> Answer {
    rendered(body).map(json_text)
}

/// `body` as JSON.
///
/// # Errors
/// 500 if `body` cannot be serialized, which does not happen for strings and numbers.
pub(crate) fn rendered(body: &impl Serialize) -> Result<Utf8Bytes, ApiError> {
    let text = serde_json::to_string(body).map_err(|error| {
        tracing::error!(%error, "a response cannot be serialized");
        ApiError::Internal
    })?;
    Ok(text.into())
}

/// 200 with JSON that is rendered.
pub(crate) fn json_text(text: Utf8Bytes) -> Response {
    let mut response = Response::new(Bytes::from(text).into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 302 to `url`, which is valid for a while: nothing is cached.
#[must_use]
pub(crate) fn redirect(url: &str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::FOUND;
    // A URL that the gateway has made has no characters that a header cannot have.
    if let Ok(url) = HeaderValue::from_str(url) {
        response.headers_mut().insert(LOCATION, url);
    }
    response
}

/// 200 with `{}`.
///
/// # Errors
/// None.
pub(crate) fn done() -> Answer {
    json(&serde_json::Map::new())
}

/// The response `{"code", "message"}` with the status `code`.
#[must_use]
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    with_body(status, &ErrorBody::new(status, message))
}

/// The same with the delay before a retry, if it is known.
#[must_use]
pub(crate) fn retryable_error(status: StatusCode, message: &str, retry_after_ms: Option<u64>) -> Response {
    let mut response = with_body(status, &ErrorBody { retry_after_ms, ..ErrorBody::new(status, message) });
    if let Some(ms) = retry_after_ms {
        // In whole seconds, rounded up: an earlier retry would be refused.
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
    }
    response
}

/// The response to a refused call, with the delay before a retry, the allowed methods or the cursor to go on with where they
/// apply.
#[must_use]
pub(crate) fn refusal(refusal: &ApiError) -> Response {
    refusal.count();
    let (code, retry_after_ms) = (refusal.code(), refusal.retry_after_ms());
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let ApiError::Gone { message, next_cursor } = refusal {
        return with_body(
            status,
            &ErrorBody { next_cursor: Some(next_cursor), ..ErrorBody::new(status, message) },
        );
    }
    let mut response = retryable_error(status, refusal.message(), retry_after_ms);
    if let ApiError::MethodNotAllowed { allowed } = refusal {
        response.headers_mut().insert(ALLOW, allow(allowed));
    }
    response
}

/// 204 with the methods that the path allows: the response to `OPTIONS`.
#[must_use]
pub(crate) fn options(allowed: &'static str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, allow(allowed));
    response
}

/// The value of `Allow`: a path that allows `GET` allows `HEAD`, too.
fn allow(allowed: &'static str) -> HeaderValue {
    let all = allowed.replace("GET", "GET, HEAD");
    HeaderValue::from_str(&all).unwrap_or_else(|_| HeaderValue::from_static(allowed))
}

fn with_body(status: StatusCode, body: &ErrorBody<'_>) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_responses_have_the_retry_delay_and_the_allowed_methods() {
        let late = refusal(&ApiError::RateLimited { message: "slow down".to_owned(), retry_after_ms: 1_001 });
        assert_eq!((late.status().as_u16(), &late.headers()[RETRY_AFTER]), (429, &HeaderValue::from(2)));
        let wrong = refusal(&ApiError::MethodNotAllowed { allowed: "GET, POST" });
        assert_eq!(
            (wrong.status().as_u16(), wrong.headers()[ALLOW].to_str().unwrap()),
            (405, "GET, HEAD, POST")
        );
        let options = options("POST");
        assert_eq!((options.status().as_u16(), options.headers()[ALLOW].to_str().unwrap()), (204, "POST"));
        assert_eq!(done().unwrap().status(), 200);
    }
}
