//! All routes of a gateway.

use std::convert::Infallible;

use metrics_exporter_prometheus::PrometheusHandle;
use shared::health::Health;
use shared::ops_routes::ops_routes;
use warp::http::StatusCode;
use warp::reply::Response;
use warp::{Filter, Rejection, filters::BoxedFilter};

use super::{answer, router, upgrade};
use crate::connection::Services;

/// All routes.
#[must_use]
pub fn routes(services: Services, health: Health, metrics: PrometheusHandle) -> BoxedFilter<(Response,)> {
    let calls = router::routes(services.clone());
    let others = upgrade::route(services).or(ops_routes(health, metrics)).unify();
    calls.or(others).unify().recover(explain).unify().boxed()
}

async fn explain(rejection: Rejection) -> Result<Response, Infallible> {
    let (status, message) = if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "no such path: the WebSocket is at /ws, calls are under /api")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        (StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
    } else if rejection.find::<warp::reject::InvalidQuery>().is_some() {
        (StatusCode::BAD_REQUEST, "the query string is ill-formed")
    } else {
        (StatusCode::BAD_REQUEST, "the request is ill-formed")
    };
    Ok(answer::error(status, message))
}
