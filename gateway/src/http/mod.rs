//! The HTTP side of a gateway: `/ws`, `/healthz`, `/readyz`, `/metrics`, and the calls under `/api`.
//!
//! A call is added in the file of its area: one line in the area's `route`, which matches method and path, and one
//! function, which reads what the [`Call`](call::Call) brought and returns an [`Answer`](answer::Answer). A new area gets
//! a line in [`api`]. Limits, deadline, cross-origin rules and the shape of errors are the same for all of them and are
//! [`api`]'s business.

mod accounts;
mod admin;
pub mod answer;
pub mod api;
pub mod call;
mod conversations;
mod groups;
pub mod origin;
mod people;

use std::convert::Infallible;

use metrics_exporter_prometheus::PrometheusHandle;
use shared::health::Health;
use shared::ops_routes::ops_routes;
use warp::http::StatusCode;
use warp::reply::Response;
use warp::{Filter, Rejection, filters::BoxedFilter};

use crate::connection::{Services, upgrade};
use crate::wire::refusal::Refusal;

/// All routes.
#[must_use]
pub fn routes(services: Services, health: Health, metrics: PrometheusHandle) -> BoxedFilter<(Response,)> {
    let calls = api::routes(services.clone());
    let others = upgrade::route(services).or(ops_routes(health, metrics)).unify();
    calls.or(others).unify().recover(explain).unify().boxed()
}

/// Entries of a page where nothing is said.
const PAGE_DEFAULT: u16 = 50;
/// Most entries of a page.
const PAGE_MAX: u16 = 500;

/// `limit` of a list.
fn limit(call: &call::Call) -> Result<u16, Refusal> {
    let rule = "limit must be 1 to 500";
    let limit = call.parameter_as("limit", rule)?.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&limit) { Ok(limit) } else { Err(Refusal::malformed(rule)) }
}

/// `cursor` of a list by ids; empty at the beginning.
fn cursor(call: &call::Call) -> String {
    call.parameter("cursor").unwrap_or_default().into_owned()
}

/// Cuts what was read to `limit`; if there was one more, returns where to go on.
fn cut<T>(listed: &mut Vec<T>, limit: u16, id: impl Fn(&T) -> String) -> Option<String> {
    let more = listed.len() > usize::from(limit);
    listed.truncate(usize::from(limit));
    listed.last().filter(|_| more).map(id)
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
