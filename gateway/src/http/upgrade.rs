//! `GET /ws`: the WebSocket handshake.
//!
//! Not `warp::ws`, because its buffer sizes cannot be set (see docs/decisions/0006).

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use shared::ids::DeviceId;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use warp::http::StatusCode;
use warp::http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::answer::{error, refusal};
use super::cors;
use super::deps::Deps;
use crate::auth::caller::{self, Claims};
use crate::connection::login::VerifiedLogin;
use crate::connection::socket::{Counted, websocket_config};
use crate::connection::task::Connection;
use crate::listen::ConnectionPermit;
use crate::wire::api_error::ApiError;

#[derive(Deserialize)]
struct Query {
    token: Option<String>,
    user_id: Option<String>,
    device_id: Option<String>,
}

/// The route.
pub(super) fn route(deps: Arc<Deps>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path!("ws")
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and(warp::query::<Query>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<ConnectionPermit>())
        .map(
            move |headers: HeaderMap,
                  query: Query,
                  on_upgrade: Option<OnUpgrade>,
                  permit: Option<ConnectionPermit>| {
                upgrade(&deps, &headers, &query, on_upgrade, permit).unwrap_or_else(|refused| *refused)
            },
        )
}

fn upgrade(
    deps: &Deps,
    headers: &HeaderMap,
    query: &Query,
    on_upgrade: Option<OnUpgrade>,
    permit: Option<ConnectionPermit>,
) -> Result<Response, Box<Response>> {
    let bad = |message: &str| Box::new(error(StatusCode::BAD_REQUEST, message));
    let is_websocket =
        has_token(headers.get(UPGRADE), "websocket") && has_token(headers.get(CONNECTION), "upgrade");
    let (Some(on_upgrade), true) = (on_upgrade, is_websocket) else {
        return Err(bad("this is a WebSocket: send Connection: Upgrade and Upgrade: websocket"));
    };
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut refused = error(StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13");
        refused.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(refused));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    let accept =
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| bad("Sec-WebSocket-Key"))?;
    cors::check(headers, &deps.settings.allowed_origins).map_err(|r| Box::new(refusal(&r)))?;
    let login = verified_login(deps, headers, query).map_err(|r| Box::new(refusal(&r)))?;
    let backend = Arc::clone(&deps.connections);
    deps.shutdown.spawn(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        if let Some(permit) = &permit {
            permit.upgraded();
        }
        let stream = Counted::new(TokioIo::new(upgraded));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(websocket_config())).await;
        Connection::new(backend, socket).run(login).await;
        drop(permit);
    });
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// `None`: the client has to log in by its first frame.
fn verified_login(
    deps: &Deps,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Option<VerifiedLogin>, ApiError> {
    let device = query.device_id.as_deref().map(DeviceId::parse).transpose().map_err(ApiError::malformed)?;
    let claims = Claims { token: query.token.as_deref(), user_id: query.user_id.as_deref() };
    let login = caller::user(&deps.tokens, deps.settings.auth_mode, headers, claims)?;
    Ok(login.map(|login| VerifiedLogin { login, device }))
}

/// Whether a comma-separated header contains `token`, regardless of case.
fn has_token(value: Option<&HeaderValue>, token: &str) -> bool {
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_token_is_found_in_a_list_regardless_of_case() {
        assert!(has_token(Some(&HeaderValue::from_static("keep-alive, Upgrade")), "upgrade"));
        assert!(!has_token(Some(&HeaderValue::from_static("keep-alive")), "upgrade"));
        assert!(!has_token(None, "upgrade"));
    }
}
