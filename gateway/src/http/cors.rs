//! The cross-origin policy, the same for the WebSocket and for HTTP calls.

use warp::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use crate::wire::api_error::ApiError;

/// Request headers that pages of other origins may send. The operator's key is not among them: it does not belong in a
/// page.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// How long a browser may cache the response to a preflight request.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");

/// Refuses pages of origins that are neither this host nor in `allowed`. Only browsers send an origin.
///
/// # Errors
/// 403 for any other origin.
pub(crate) fn check(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    if is_allowed(headers, allowed) {
        return Ok(());
    }
    Err(ApiError::Forbidden("this origin is not allowed: see listen.allowed_origins".to_owned()))
}

fn is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let same_host = origin.split_once("://").is_some_and(|(_, origin_host)| Some(origin_host) == host);
    same_host || allowed.iter().any(|one| one == "*" || one == origin)
}

/// The response to a preflight request; `None` if this is not one.
#[must_use]
pub(crate) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    let is_preflight = *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    is_preflight.then(|| {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        let fields = response.headers_mut();
        fields.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        fields.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
        response
    })
}

/// Adds the headers that let a page of the allowed `origin` read the response.
pub(crate) fn allow(response: &mut Response, origin: Option<&HeaderValue>) {
    let fields = response.headers_mut();
    fields.insert(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn pages_of_other_hosts_are_refused_unless_allowed() {
        let allowed = |origin, list: &[&str]| {
            let list: Vec<_> = list.iter().map(|one| (*one).to_owned()).collect();
            is_allowed(&headers(&[("host", "chat.example:8080"), ("origin", origin)]), &list)
        };
        assert!(is_allowed(&headers(&[("host", "chat.example")]), &[]));
        assert!(allowed("http://chat.example:8080", &[]));
        assert!(!allowed("http://evil.example", &[]));
        assert!(!allowed("null", &[]));
        assert!(allowed("https://app.example", &["https://app.example"]));
        assert!(!allowed("https://app.example.evil", &["https://app.example"]));
        assert!(allowed("http://evil.example", &["*"]));
    }

    #[test]
    fn a_preflight_is_an_options_request_with_a_method() {
        let request = headers(&[("access-control-request-method", "DELETE")]);
        assert_eq!(preflight(&Method::OPTIONS, &request).unwrap().status(), StatusCode::NO_CONTENT);
        assert!(preflight(&Method::OPTIONS, &headers(&[])).is_none());
        assert!(preflight(&Method::DELETE, &request).is_none());
    }
}
