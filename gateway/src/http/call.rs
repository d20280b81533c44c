//! One HTTP call: its caller, parameters and body.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use shared::ids::UserId;
use tokio::time::{Instant, timeout};
use warp::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use warp::http::{HeaderMap, HeaderValue, Method};

use super::deps::Deps;
use super::places::Place;
use super::{body, query};
use crate::auth::caller::{self, Caller, Claims};
use crate::budget::Payer;
use crate::listen::network;
use crate::wire::api_error::ApiError;
use crate::wire::number;

/// An unread body.
pub(super) type Body = BoxStream<'static, Result<Box<dyn Buf + Send>, warp::Error>>;

/// An HTTP call.
pub(crate) struct Call {
    /// The parts of the gateway that calls use.
    pub(crate) deps: Arc<Deps>,
    /// The address of the client.
    pub(crate) address: IpAddr,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: String,
    pub(super) caller: Result<Caller, ApiError>,
    /// Who pays for what the call does.
    pub(super) payer: Payer,
    /// Start of the deadline: the time in which the client sends the body does not count.
    pub(super) deadline_start: Arc<Mutex<Instant>>,
    pub(super) body: Mutex<Option<Body>>,
    pub(super) place: Mutex<Place>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and query may contain a token or a key.
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// The method: `GET`, `POST` …
    #[must_use]
    pub(crate) fn method(&self) -> &str {
        self.method.as_str()
    }

    /// The key of rate limits per address: the IPv4 address, or the IPv6 network.
    #[must_use]
    pub(crate) fn network(&self) -> IpAddr {
        network(self.address)
    }

    /// The caller.
    ///
    /// # Errors
    /// 401 without valid token or key; 400 if `X-User-Id` is malformed.
    pub(crate) fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().map_err(ApiError::clone)
    }

    /// The user that the call acts for: the token's user, or the one that the operator names in `X-User-Id`.
    ///
    /// # Errors
    /// 401 without valid token or key; 400 if the operator names no user.
    pub(crate) fn user(&self) -> Result<&UserId, ApiError> {
        match self.caller()? {
            Caller::User(user) | Caller::Operator(Some(user)) => Ok(user),
            Caller::Operator(None) => {
                Err(ApiError::malformed("X-User-Id is missing: name the user that the operator acts for"))
            }
        }
    }

    /// Whether the caller is the operator, with or without a user.
    #[must_use]
    pub(crate) fn is_operator(&self) -> bool {
        matches!(self.caller, Ok(Caller::Operator(_)))
    }

    /// Refuses all callers but the operator.
    ///
    /// # Errors
    /// 401 without valid token or key, 403 for a user.
    pub(crate) fn operator(&self) -> Result<(), ApiError> {
        match &self.caller {
            Ok(Caller::Operator(_)) => Ok(()),
            Ok(Caller::User(_)) => Err(ApiError::Forbidden(
                "only the operator may call this: send the key as X-Api-Key".to_owned(),
            )),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    /// Lets the call take until `until`, and after that as long as any other.
    pub(crate) fn wait_until(&self, until: Instant) {
        *self.deadline_start.lock() = until;
    }

    /// Leaves the place of the call to others while it waits; it keeps the share of its address.
    pub(crate) fn leave_place(&self) {
        self.place.lock().leave();
    }

    /// Checks the token of a user again, after a wait.
    ///
    /// # Errors
    /// 401
    pub(crate) fn check_again(&self) -> Result<(), ApiError> {
        if !matches!(self.caller, Ok(Caller::User(_))) {
            return Ok(());
        }
        let (token, user_id) = (self.parameter("token"), self.parameter("user_id"));
        let claims = Claims { token: token.as_deref(), user_id: user_id.as_deref() };
        caller::user(&self.deps.tokens, self.deps.settings.auth_mode, &self.headers, claims).map(drop)
    }

    /// A parameter of the query string; the first one of that name.
    #[must_use]
    pub(crate) fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        query::parameter(&self.query, name)
    }

    /// All parameters of that name.
    pub(crate) fn parameters(&self, name: &'static str) -> impl Iterator<Item = Cow<'_, str>> {
        query::parameters(&self.query, name)
    }

    /// A parameter of the query string that is a whole number, however it is written. `rule` is the error message:
    /// `"limit must be 1 to 500"`.
    ///
    /// # Errors
    /// 400 with `rule`.
    pub(crate) fn parameter_as<T: TryFrom<i64>>(
        &self,
        name: &str,
        rule: &str,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.parameter(name) else { return Ok(None) };
        let number = number::whole(&text).and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or_else(|| ApiError::malformed(rule))
    }

    /// Reads the body: one JSON object of at most `limits.http_body_bytes_max` bytes. Unknown fields are ignored.
    ///
    /// # Errors
    /// 401 before the body is read, without valid token or key; 400 with a message that names the field, 408 if the body
    /// is late, 413 if it is too long.
    pub(crate) async fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.json_up_to(self.deps.settings.body_bytes_max()).await
    }

    /// As [`json`](Self::json), with another limit.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub(crate) async fn json_up_to<T: DeserializeOwned>(&self, bytes_max: usize) -> Result<T, ApiError> {
        self.caller()?;
        self.read_json(bytes_max, &[]).await
    }

    /// As [`json`](Self::json), but `null` is a value of the fields `nullable`.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub(crate) async fn json_with_null<T: DeserializeOwned>(&self, nullable: &[&str]) -> Result<T, ApiError> {
        self.caller()?;
        self.read_json(self.deps.settings.body_bytes_max(), nullable).await
    }

    /// As [`json`](Self::json), without authentication: for calls that authenticate.
    ///
    /// # Errors
    /// As [`json`](Self::json), without 401.
    pub(crate) async fn json_of_anyone<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.read_json(self.deps.settings.body_bytes_max(), &[]).await
    }

    async fn read_json<T: DeserializeOwned>(
        &self,
        bytes_max: usize,
        nullable: &[&str],
    ) -> Result<T, ApiError> {
        let is_encoded = |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if self.headers.get_all(CONTENT_ENCODING).iter().any(is_encoded) {
            return Err(ApiError::malformed("Content-Encoding is not supported: send the body as it is"));
        }
        let too_large = || ApiError::TooLarge(format!("the body is longer than {bytes_max} bytes"));
        let declared = self.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        // Known from the header, without reading the body.
        if declared.is_some_and(|length: usize| length > bytes_max) {
            return Err(too_large());
        }
        let body = self.body.lock().take();
        let read = async {
            let mut text = BytesMut::new();
            let Some(mut body) = body else { return Ok(text) };
            while let Some(part) = body.next().await {
                let mut part = part.map_err(|_| ApiError::malformed("the body ended early"))?;
                if text.len() + part.remaining() > bytes_max {
                    return Err(too_large());
                }
                while part.has_remaining() {
                    let length = part.chunk().len();
                    text.extend_from_slice(part.chunk());
                    part.advance(length);
                }
            }
            Ok(text)
        };
        let body_timeout = self.deps.settings.body_timeout;
        let late = |_| ApiError::RequestTimeout("the body did not arrive in time".to_owned());
        *self.deadline_start.lock() = Instant::now() + body_timeout;
        let text = timeout(body_timeout, read).await.map_err(late)??;
        *self.deadline_start.lock() = Instant::now();
        body::parse(&text, nullable)
    }
}

/// The id of a user in a path or a parameter.
///
/// # Errors
/// 400
pub(super) fn user(id: &str) -> Result<UserId, ApiError> {
    UserId::parse(id).map_err(ApiError::malformed)
}
