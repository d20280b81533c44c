//! The cross-origin policy, the same for the WebSocket and for HTTP calls.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use url::Host;
use warp::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use crate::config::{AuthMode, Listen};
use crate::origin::{self, Origin, host_and_port};
use crate::wire::api_error::ApiError;

/// Request headers that pages of other origins may send. The operator's key is not among them: it does not belong in a
/// page.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// How long a browser may cache the response to a preflight request.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");

/// How often a refused page is logged as a warning: its origin or name is probably missing in the settings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Longest origin in a log line.
const LOGGED_BYTES_MAX: usize = 128;

/// The pages that may use the gateway. Only browsers send an origin; other clients are not restricted by it.
#[derive(Debug)]
pub(crate) struct CrossOriginPolicy {
    any: bool,
    origins: Vec<Origin>,
    /// Names by which clients may reach the gateway, beside `localhost` and IP addresses. `None`: by any name.
    hosts: Option<Vec<Host>>,
    warned_at: Mutex<Option<Instant>>,
}

impl CrossOriginPolicy {
    /// The policy of checked settings. With [`AuthMode::Insecure`] a page needs no token, so that its origin alone has to
    /// keep it out: a page of any name can let this name lead to the gateway (DNS rebinding) and is of its own host then.
    /// So the name must be known, unless all pages are allowed anyway.
    pub(crate) fn new(listen: &Listen, mode: AuthMode) -> Self {
        let any = listen.allowed_origins.iter().any(|one| one == "*");
        let origins: Vec<_> = listen.allowed_origins.iter().filter_map(|one| Origin::parse(one)).collect();
        let is_restricted = mode == AuthMode::Insecure && !any;
        let hosts = is_restricted.then(|| {
            let of_pages = origins.iter().filter_map(Origin::host).cloned();
            of_pages.chain(listen.hosts.iter().filter_map(|name| origin::host(name))).collect()
        });
        Self { any, origins, hosts, warned_at: Mutex::new(None) }
    }

    /// Refuses pages of origins that are neither this host nor allowed, and names of this host that are not known.
    ///
    /// # Errors
    /// 403
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).and_then(host_and_port);
        if let Some((host, _)) = &host
            && !self.is_known(host)
        {
            self.log(headers, "its name for this gateway is not in listen.hosts");
            let message =
                "with auth.mode = \"insecure\" use localhost or an IP address: other names need listen.hosts";
            return Err(ApiError::Forbidden(message.to_owned()));
        }
        if !self.is_allowed(headers, host.as_ref()) {
            self.log(headers, "its origin is not in listen.allowed_origins");
            return Err(ApiError::Forbidden(
                "this origin is not allowed: see listen.allowed_origins".to_owned(),
            ));
        }
        Ok(())
    }

    fn is_known(&self, host: &Host) -> bool {
        self.hosts.as_ref().is_none_or(|known| origin::is_local_or_address(host) || known.contains(host))
    }

    fn is_allowed(&self, headers: &HeaderMap, host: Option<&(Host, Option<u16>)>) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else {
            return !headers.contains_key(ORIGIN);
        };
        let origin = origin.to_str().ok().and_then(Origin::parse);
        self.any
            || origin.is_some_and(|origin| {
                host.is_some_and(|host| origin.is_of(host)) || self.origins.contains(&origin)
            })
    }

    fn log(&self, headers: &HeaderMap, why: &'static str) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (origin, host) = (cut(text(ORIGIN)), cut(text(HOST)));
        let now = Instant::now();
        let mut warned_at = self.warned_at.lock();
        if warned_at.is_none_or(|at| now.duration_since(at) >= WARNING_INTERVAL) {
            *warned_at = Some(now);
            tracing::warn!(
                origin,
                host,
                why,
                "A page of {origin:?} that connects to {host:?} is refused with 403: {why}; further ones of the next \
                 minute are logged as debug"
            );
        } else {
            tracing::debug!(
                origin,
                host,
                why,
                "A page of {origin:?} that connects to {host:?} is refused with 403"
            );
        }
    }
}

/// The beginning of a header, which is ASCII.
fn cut(text: &str) -> &str {
    text.get(..LOGGED_BYTES_MAX).unwrap_or(text)
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

    fn policy(origins: &[&str], hosts: &[&str], mode: AuthMode) -> CrossOriginPolicy {
        let texts = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let listen = Listen { allowed_origins: texts(origins), hosts: texts(hosts), ..Listen::default() };
        CrossOriginPolicy::new(&listen, mode)
    }

    #[test]
    fn pages_of_other_hosts_are_refused_unless_allowed() {
        let allowed = |origin, list: &[&str]| {
            let request = headers(&[("host", "chat.example:8080"), ("origin", origin)]);
            policy(list, &[], AuthMode::Jwt).check(&request).is_ok()
        };
        let none = policy(&[], &[], AuthMode::Jwt);
        assert!(none.check(&headers(&[("host", "chat.example")])).is_ok());
        assert!(none.check(&headers(&[])).is_ok());
        assert!(none.check(&headers(&[("origin", "http://chat.example")])).is_err(), "of no host");
        assert!(allowed("http://chat.example:8080", &[]));
        assert!(allowed("HTTP://Chat.Example:8080", &[]));
        assert!(!allowed("http://chat.example", &[]));
        assert!(!allowed("http://evil.example", &[]));
        assert!(!allowed("null", &[]));
        assert!(!allowed("", &[]));
        assert!(allowed("null", &["null"]));
        assert!(allowed("https://app.example", &["https://app.example"]));
        assert!(allowed("https://app.example", &["HTTPS://App.example:443/"]));
        assert!(allowed("capacitor://localhost", &["capacitor://localhost"]));
        assert!(!allowed("https://app.example.evil", &["https://app.example"]));
        assert!(!allowed("http://app.example", &["https://app.example"]));
        assert!(allowed("http://evil.example", &["*"]));
        let mut two = headers(&[("host", "chat.example"), ("origin", "http://chat.example")]);
        two.append("origin", HeaderValue::from_static("http://evil.example"));
        assert!(none.check(&two).is_err());
    }

    #[test]
    fn without_tokens_the_name_of_the_gateway_must_be_known() {
        let own_page = |host: &str| {
            let origin = format!("http://{host}");
            let mut request = HeaderMap::new();
            request.insert(HOST, host.parse().unwrap());
            request.insert(ORIGIN, origin.parse().unwrap());
            request
        };
        let insecure = policy(&["https://app.example"], &["chat.local"], AuthMode::Insecure);
        for host in [
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "x.localhost",
            "Chat.Local:8080",
            "app.example",
        ] {
            assert!(insecure.check(&own_page(host)).is_ok(), "{host}");
        }
        for host in ["evil.example:8080", "evil.example", "chat.local.evil.example", "localhost.evil.example"]
        {
            let refused = insecure.check(&own_page(host)).unwrap_err();
            assert!(refused.code() == 403 && refused.message().contains("listen.hosts"), "{host}");
            let mut without_origin = own_page(host);
            without_origin.remove(ORIGIN);
            assert!(insecure.check(&without_origin).is_err(), "browsers send none with GET: {host}");
            assert!(policy(&[], &[], AuthMode::Jwt).check(&own_page(host)).is_ok(), "{host}");
            assert!(policy(&["*"], &[], AuthMode::Insecure).check(&own_page(host)).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_preflight_is_an_options_request_with_a_method() {
        let request = headers(&[("access-control-request-method", "DELETE")]);
        assert_eq!(preflight(&Method::OPTIONS, &request).unwrap().status(), StatusCode::NO_CONTENT);
        assert!(preflight(&Method::OPTIONS, &headers(&[])).is_none());
        assert!(preflight(&Method::DELETE, &request).is_none());
    }
}
