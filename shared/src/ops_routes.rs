//! `/healthz`, `/readyz` and `/metrics` of the operator's own listener.

use metrics_exporter_prometheus::PrometheusHandle;
use warp::reply::{Reply, Response};
use warp::{Filter, filters::BoxedFilter};

use crate::health::Health;
use crate::probes::{for_method, probes};
use crate::telemetry::lines_lost;

/// All three. `/readyz` answers 503 with one line per failing check.
#[must_use]
pub fn ops_routes(health: Health, metrics: PrometheusHandle) -> BoxedFilter<(Response,)> {
    let (of_metrics, standard) = (health.clone(), metrics_process::Collector::default());
    let metrics = warp::path!("metrics").map(move || {
        metrics::counter!(crate::metrics::LOG_LINES_LOST).absolute(lines_lost());
        of_metrics.report();
        standard.collect();
        warp::reply::with_header(metrics.render(), "content-type", "text/plain; version=0.0.4")
            .into_response()
    });
    let answers = probes(health, |failing| failing.join("\n") + "\n").or(metrics).unify();
    warp::method().and(answers).map(for_method).boxed()
}
