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
    let of_metrics = health.clone();
    let metrics = warp::path!("metrics").map(move || {
        let text = metrics_text(&of_metrics, &metrics);
        warp::reply::with_header(text, "content-type", "text/plain; version=0.0.4").into_response()
    });
    let answers = probes(health, |failing| failing.join("\n") + "\n").or(metrics).unify();
    warp::method().and(answers).map(for_method).boxed()
}

fn metrics_text(health: &Health, metrics: &PrometheusHandle) -> String {
    metrics::counter!(crate::metrics::LOG_LINES_LOST).absolute(lines_lost());
    health.report();
    metrics.render()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::{ALL, STANDARD};

    #[test]
    fn metrics_are_those_of_the_list() {
        let health = Health::new();
        let failing = health.check("mysql");
        let handle = crate::telemetry::init_metrics().unwrap();
        metrics_process::Collector::default().collect();
        let text = metrics_text(&health, &handle);
        let described: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let expected: BTreeSet<&str> = STANDARD.iter().map(|metric| metric.name).collect();
        let of_process = described.iter().copied().filter(|name| name.starts_with("process_")).collect();
        assert_eq!(expected, of_process);
        let unlisted: Vec<_> = described
            .iter()
            .filter(|name| !ALL.iter().chain(STANDARD).any(|metric| metric.name == **name))
            .collect();
        assert!(unlisted.is_empty(), "{unlisted:?}");
        assert!(
            text.contains("im_process_ready 0\n")
                && text.contains("im_process_check_failing{check=\"mysql\"} 1\n")
        );
        failing.pass();
        let text = metrics_text(&health, &handle);
        assert!(
            text.contains("im_process_ready 1\n")
                && text.contains("im_process_check_failing{check=\"mysql\"} 0\n")
        );
    }
}
