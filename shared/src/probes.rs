//! `/healthz` and `/readyz`: for the operator with the reasons of a failure, for clients without.

use warp::http::header::ALLOW;
use warp::http::{Method, StatusCode};
use warp::reply::{Reply, Response};
use warp::{Filter, filters::BoxedFilter};

use crate::health::Health;

/// `/healthz`, and `/readyz` without the reasons of its failure: for load balancers that reach the port of clients only.
#[must_use]
pub fn public_routes(health: Health) -> BoxedFilter<(Response,)> {
    let answers = probes(health, |_| "not ready\n".to_owned());
    warp::method().and(answers).map(for_method).boxed()
}

/// `/healthz` and `/readyz`; `reasons` makes the text of a failure from the failing checks.
pub(crate) fn probes(
    health: Health,
    reasons: impl Fn(&[String]) -> String + Clone + Send + Sync + 'static,
) -> BoxedFilter<(Response,)> {
    let alive = warp::path!("healthz").map(|| "ok\n".into_response());
    let ready = warp::path!("readyz").map(move || {
        let failing = health.failing();
        if failing.is_empty() {
            return "ready\n".into_response();
        }
        warp::reply::with_status(reasons(&failing), StatusCode::SERVICE_UNAVAILABLE).into_response()
    });
    alive.or(ready).unify().boxed()
}

/// The answer to `GET` and `HEAD` (hyper sends the head only); other methods are refused.
pub(crate) fn for_method(method: Method, answer: Response) -> Response {
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
