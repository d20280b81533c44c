//! `/ws`: the upgrade to a WebSocket.
//!
//! Not `warp::ws`, because its buffer sizes cannot be set (see docs/decisions/0006).

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use shared::ids::DeviceId;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use warp::http::Method;
use warp::http::header::{HeaderMap, ORIGIN};
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::answer::refusal;
use super::deps::Deps;
use super::handshake::{Handshake, NoHandshake};
use super::{head, query};
use crate::auth::caller::{self, Claims};
use crate::connection::login::VerifiedLogin;
use crate::connection::refused;
use crate::connection::socket::{Counted, websocket_config};
use crate::connection::task::Connection;
use crate::listen::ConnectionPermit;
use crate::wire::api_error::ApiError;
use crate::wire::close;

/// The route.
pub(super) fn route(deps: Arc<Deps>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path!("ws")
        .and(warp::method())
        .and(head::headers())
        .and(query::text())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<ConnectionPermit>())
        .map(
            move |method: Method,
                  headers: HeaderMap,
                  query: String,
                  on_upgrade: Option<OnUpgrade>,
                  permit: Option<ConnectionPermit>| {
                let handshake = Handshake::check(&method, &headers);
                match (handshake, on_upgrade) {
                    (Ok(handshake), Some(on_upgrade)) => {
                        let admitted = admit(&deps, &headers, &query);
                        let is_page = headers.contains_key(ORIGIN);
                        upgrade(&deps, admitted, is_page, (on_upgrade, permit))
                            .map_or_else(|refused| *refused, |()| handshake.response())
                    }
                    (Ok(_), None) => NoHandshake::NoUpgrade.response(),
                    (Err(refused), _) => refused.response(),
                }
            },
        )
}

/// Whether the page and the user may connect. `None`: the client has to log in by its first frame.
fn admit(deps: &Deps, headers: &HeaderMap, query: &str) -> Result<Option<VerifiedLogin>, ApiError> {
    deps.settings.cross_origin.check(headers)?;
    let parameter = |name| query::parameter(query, name);
    let device =
        parameter("device_id").map(|id| DeviceId::parse(&id)).transpose().map_err(ApiError::malformed)?;
    let (token, user_id) = (parameter("token"), parameter("user_id"));
    let claims = Claims { token: token.as_deref(), user_id: user_id.as_deref() };
    let login = caller::user(&deps.tokens, deps.settings.auth_mode, headers, claims)?;
    Ok(login.map(|login| VerifiedLogin { login, device }))
}

/// Starts the connection after the upgrade. A page that may not connect gets the upgrade as well, and then a close frame:
/// browsers tell a page neither the status nor the body of a refused upgrade.
///
/// # Errors
/// The refusal of another client.
fn upgrade(
    deps: &Deps,
    admitted: Result<Option<VerifiedLogin>, ApiError>,
    is_page: bool,
    (on_upgrade, permit): (OnUpgrade, Option<ConnectionPermit>),
) -> Result<(), Box<Response>> {
    let socket = async {
        let stream = Counted::new(TokioIo::new(on_upgrade.await.ok()?));
        Some(WebSocketStream::from_raw_socket(stream, Role::Server, Some(websocket_config())).await)
    };
    match admitted {
        Ok(login) => {
            let backend = Arc::clone(&deps.connections);
            deps.shutdown.spawn(async move {
                let Some(socket) = socket.await else { return };
                if let Some(permit) = &permit {
                    permit.upgraded();
                }
                Connection::new(backend, socket).run(login).await;
                drop(permit);
            });
        }
        Err(refused) => {
            let (code, message) = (refused.code(), refused.message());
            tracing::debug!(code, message, is_page, "A WebSocket is refused with {code}: {message}");
            if !is_page {
                return Err(Box::new(refusal(&refused)));
            }
            refused.count();
            let frame = close::of_refusal(&refused);
            deps.shutdown.spawn(async move {
                let Some(socket) = socket.await else { return };
                refused::close(socket, frame).await;
                drop(permit);
            });
        }
    }
    Ok(())
}
