//! `/healthz`, `/readyz` and `/metrics`, the same in both binaries.

use metrics_exporter_prometheus::PrometheusHandle;
use warp::http::header::ALLOW;
use warp::http::{Method, StatusCode};
use warp::reply::{Reply, Response};
use warp::{Filter, filters::BoxedFilter};

use crate::health::Health;
use crate::telemetry::lines_lost;

/// The three routes. `/readyz` answers 503 with one line per failing check.
#[must_use]
pub fn ops_routes(health: Health, metrics: PrometheusHandle) -> BoxedFilter<(Response,)> {
    let of_metrics = health.clone();
    let alive = warp::path!("healthz").map(|| "ok\n".into_response());
    let ready = warp::path!("readyz").map(move || {
        let failing = health.failing();
        if failing.is_empty() {
            return "ready\n".into_response();
        }
        warp::reply::with_status(failing.join("\n") + "\n", StatusCode::SERVICE_UNAVAILABLE).into_response()
    });
    let metrics = warp::path!("metrics").map(move || {
        metrics::counter!(crate::metrics::LOG_LINES_LOST).absolute(lines_lost());
        let is_ready = of_metrics.failing().is_empty();
        metrics::gauge!(crate::metrics::PROCESS_READY).set(if is_ready { 1.0 } else { 0.0 });
        warp::reply::with_header(metrics.render(), "content-type", "text/plain; version=0.0.4")
            .into_response()
    });
    let answers = alive.or(ready).unify().or(metrics).unify();
    warp::method().and(answers).map(for_method).boxed()
}

/// The answer to `GET` and `HEAD` (hyper sends the head only); other methods are refused.
fn for_method(method: Method, answer: Response) -> Response {
    let status = match method {
        Method::GET | Method::HEAD => return answer,
        Method::OPTIONS => StatusCode::NO_CONTENT,
        _ => StatusCode::METHOD_NOT_ALLOWED,
    };
    warp::reply::with_status(warp::reply::with_header(warp::reply::reply(), ALLOW, "GET, HEAD"), status)
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_get_and_head_are_answered() {
        let answer = |method| for_method(method, "ok\n".into_response());
        for (method, status) in [
            (Method::GET, 200),
            (Method::HEAD, 200),
            (Method::OPTIONS, 204),
            (Method::POST, 405),
            (Method::DELETE, 405),
        ] {
            let answer = answer(method);
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers().get(ALLOW).is_some(), status != 200);
        }
    }
}
