//! All HTTP routes of a gateway, and the responses to requests that match none.

use std::convert::Infallible;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use shared::health::Health;
use shared::ops_routes::ops_routes;
use warp::http::StatusCode;
use warp::reply::Response;
use warp::{Filter, Rejection, filters::BoxedFilter};

use super::deps::Deps;
use super::{answer, router, upgrade};

/// The WebSocket, the calls under `/api`, and the operational routes.
#[must_use]
pub(crate) fn routes(deps: Deps, health: Health, metrics: PrometheusHandle) -> BoxedFilter<(Response,)> {
    let deps = Arc::new(deps);
    let calls = router::routes(Arc::clone(&deps));
    let others = upgrade::route(deps).or(ops_routes(health, metrics)).unify();
    calls.or(others).unify().recover(error_response).unify().boxed()
}

async fn error_response(rejection: Rejection) -> Result<Response, Infallible> {
    let (status, message) = if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "no such path: the WebSocket is at /ws, calls are under /api")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        (StatusCode::METHOD_NOT_ALLOWED, "this path does not allow this method")
    } else if rejection.find::<warp::reject::InvalidQuery>().is_some() {
        (StatusCode::BAD_REQUEST, "the query string is malformed")
    } else {
        (StatusCode::BAD_REQUEST, "the request is malformed")
    };
    Ok(answer::error(status, message))
}
