//! `GET /ws`: who asks, and the answer 101.
//!
//! Done here and not by `warp::ws`, whose buffers cannot be set (see docs/decisions/0006).

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use shared::ids::{DeviceId, UserId};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use warp::http::StatusCode;
use warp::http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::socket::{Counted, websocket_config};
use super::task::Connection;
use super::{Identity, Services};
use crate::config::AuthMode;
use crate::http::error;
use crate::listen::Place;

#[derive(Deserialize)]
struct Query {
    token: Option<String>,
    user_id: Option<String>,
    device_id: Option<String>,
}

/// The route.
pub fn route(services: Services) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path!("ws")
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and(warp::query::<Query>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Place>())
        .map(move |headers: HeaderMap, query: Query, on_upgrade: Option<OnUpgrade>, place: Option<Place>| {
            upgrade(services.clone(), &headers, query, on_upgrade, place).unwrap_or_else(|refused| *refused)
        })
}

fn upgrade(
    services: Services,
    headers: &HeaderMap,
    query: Query,
    on_upgrade: Option<OnUpgrade>,
    place: Option<Place>,
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
    if !origin_allowed(headers, &services.config.listen.allowed_origins) {
        return Err(Box::new(error(
            StatusCode::FORBIDDEN,
            "this origin is not allowed: see listen.allowed_origins",
        )));
    }
    let who = who(&services, headers, query)?;
    let tasks = services.shutdown.clone();
    tasks.spawn(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        let stream = Counted::new(TokioIo::new(upgraded));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(websocket_config())).await;
        Connection::new(services, socket).run(who).await;
        drop(place);
    });
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// `None`: it has to log in by its first frame.
fn who(services: &Services, headers: &HeaderMap, query: Query) -> Result<Option<Identity>, Box<Response>> {
    let bad = |error_: &dyn std::fmt::Display| Box::new(error(StatusCode::BAD_REQUEST, &error_.to_string()));
    let unauthorized = |message: &str| Box::new(error(StatusCode::UNAUTHORIZED, message));
    let device = query.device_id.map(|id| DeviceId::parse(&id)).transpose().map_err(|e| bad(&e))?;
    let bearer = headers.get(AUTHORIZATION).map(|value| {
        let value = value.to_str().unwrap_or_default();
        value
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
    });
    let token = match bearer {
        Some(None) => return Err(unauthorized("Authorization must be: Bearer <token>")),
        Some(token) => token,
        None => query.token.as_deref(),
    };
    let user = match (token, query.user_id) {
        (Some(token), _) => {
            services.tokens.check(token).map_err(|refusal| unauthorized(refusal.message()))?
        }
        (None, Some(user)) if services.config.auth.mode == AuthMode::Insecure => {
            UserId::parse(&user).map_err(|e| bad(&e))?
        }
        (None, Some(_)) => return Err(unauthorized("user_id alone is not enough here: send a token")),
        (None, None) => return Ok(None),
    };
    Ok(Some(services.identify(user, device)))
}

/// Whether a comma-separated header holds `token`.
fn has_token(value: Option<&HeaderValue>, token: &str) -> bool {
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Browsers name the page's origin: it must be this host, or one that is allowed. Other clients name none.
fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let same_host = origin.split_once("://").is_some_and(|(_, origin_host)| Some(origin_host) == host);
    same_host || allowed.iter().any(|one| one == "*" || one == origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn tokens_in_headers_are_found_whatever_their_case_and_company() {
        assert!(has_token(Some(&HeaderValue::from_static("keep-alive, Upgrade")), "upgrade"));
        assert!(!has_token(Some(&HeaderValue::from_static("keep-alive")), "upgrade"));
        assert!(!has_token(None, "upgrade"));
    }

    #[test]
    fn pages_of_other_hosts_are_kept_out_unless_allowed() {
        let allowed = |origin, list: &[&str]| {
            let list: Vec<_> = list.iter().map(|one| (*one).to_owned()).collect();
            origin_allowed(&headers(&[("host", "chat.example:8080"), ("origin", origin)]), &list)
        };
        assert!(origin_allowed(&headers(&[("host", "chat.example")]), &[]));
        assert!(allowed("http://chat.example:8080", &[]));
        assert!(!allowed("http://evil.example", &[]));
        assert!(!allowed("null", &[]));
        assert!(allowed("https://app.example", &["https://app.example"]));
        assert!(!allowed("https://app.example.evil", &["https://app.example"]));
        assert!(allowed("http://evil.example", &["*"]));
    }
}
