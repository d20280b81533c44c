//! The HTTP side of a gateway: `/ws`, `/healthz`, `/readyz`, `/metrics`, and JSON errors for everything else.

use std::convert::Infallible;

use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use shared::health::Health;
use shared::ops_routes::ops_routes;
use warp::http::StatusCode;
use warp::reply::{Reply as _, Response};
use warp::{Filter, Rejection, filters::BoxedFilter};

use crate::connection::{Services, upgrade};

/// All routes.
#[must_use]
pub fn routes(services: Services, health: Health, metrics: PrometheusHandle) -> BoxedFilter<(Response,)> {
    upgrade::route(services).or(ops_routes(health, metrics)).unify().recover(explain).unify().boxed()
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
}

/// An error as `{"code", "message"}` with the matching status.
#[must_use]
pub fn error(status: StatusCode, message: &str) -> Response {
    let body = warp::reply::json(&ErrorBody { code: status.as_u16(), message });
    warp::reply::with_status(body, status).into_response()
}

async fn explain(rejection: Rejection) -> Result<Response, Infallible> {
    let (status, message) = if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "no such path: the WebSocket is at /ws")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        (StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
    } else if rejection.find::<warp::reject::InvalidQuery>().is_some() {
        (StatusCode::BAD_REQUEST, "the query string is ill-formed")
    } else {
        (StatusCode::BAD_REQUEST, "the request is ill-formed")
    };
    Ok(error(status, message))
}
