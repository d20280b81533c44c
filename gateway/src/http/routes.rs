//! All HTTP routes of a gateway, and the responses to requests that match none.

use std::convert::Infallible;
use std::sync::Arc;

use shared::health::Health;
use shared::probes::public_routes;
use warp::http::StatusCode;
use warp::http::header::{CACHE_CONTROL, HeaderValue};
use warp::reply::Response;
use warp::{Filter, Rejection, filters::BoxedFilter};

use super::deps::Deps;
use super::head::{self, BadHead};
use super::{answer, file_bytes, router, upgrade, web};

/// The WebSocket, the calls under `/api`, the bytes of files, `/healthz` and `/readyz`, and the web client.
#[must_use]
pub(crate) fn routes(deps: Deps, health: Health) -> BoxedFilter<(Response,)> {
    let deps = Arc::new(deps);
    let calls = router::routes(Arc::clone(&deps));
    let probes = head::headers().map(drop).untuple_one().and(public_routes(health));
    let files = file_bytes::route(Arc::clone(&deps));
    let page = web::route(deps.settings.web_client, &deps.settings.file_origins);
    let others = upgrade::route(deps).or(files).unify().or(probes).unify().or(page).unify();
    calls.or(others).unify().recover(error_response).unify().map(not_stored).boxed()
}

/// Answers may contain tokens and private messages, and are of this moment: no cache stores them, unless an answer says
/// otherwise.
fn not_stored(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

async fn error_response(rejection: Rejection) -> Result<Response, Infallible> {
    let (status, message) = if let Some(BadHead(message)) = rejection.find() {
        (StatusCode::BAD_REQUEST, *message)
    } else if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "no such path: the WebSocket is at /ws, calls are under /api")
    } else {
        (StatusCode::BAD_REQUEST, "the request is malformed")
    };
    Ok(answer::error(status, message))
}
