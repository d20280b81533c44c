//! `/healthz`, `/readyz` and `/metrics`, the same in both binaries.

use metrics_exporter_prometheus::PrometheusHandle;
use warp::http::StatusCode;
use warp::reply::{Reply, Response};
use warp::{Filter, filters::BoxedFilter};

use crate::health::Health;

/// The three routes. `/readyz` answers 503 with one line per failing check.
#[must_use]
pub fn ops_routes(health: Health, metrics: PrometheusHandle) -> BoxedFilter<(Response,)> {
    let alive = warp::path!("healthz").map(|| "ok\n".into_response());
    let ready = warp::path!("readyz").map(move || {
        let failing = health.failing();
        if failing.is_empty() {
            return "ready\n".into_response();
        }
        warp::reply::with_status(failing.join("\n") + "\n", StatusCode::SERVICE_UNAVAILABLE).into_response()
    });
    let metrics = warp::path!("metrics").map(move || {
        warp::reply::with_header(metrics.render(), "content-type", "text/plain; version=0.0.4")
            .into_response()
    });
    warp::get().and(alive.or(ready).unify().or(metrics).unify()).boxed()
}
