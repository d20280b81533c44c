//! What all calls under `/api` have in common: limits, deadline, cross-origin rules, the shape of errors; and which area
//! serves which path.
//!
//! Paths are matched here and in the areas, not by one warp filter each: a filter that rejects a request (a body that is
//! no JSON) hands it on to all the others, and what the client is told in the end depends on their order.
//!
//! A call that has begun is not given up half way: its task goes on when the client goes away or the deadline passes, so
//! that what was committed is also told to the other gateways. It is waited for when the gateway drains.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt as _};
use ipnet::IpNet;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use shared::ids::UserId;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::ORIGIN;
use warp::http::{HeaderMap, Method};
use warp::path::FullPath;
use warp::reply::Response;

use super::answer::{Answer, refusal};
use super::call::{Body, Call};
use super::{accounts, admin, conversations, groups, origin, people};
use crate::auth::caller::{self, Caller, Claims};
use crate::auth::operator::OperatorKey;
use crate::connection::Services;
use crate::listen::Peer;
use crate::rates::Rates;
use crate::wire::refusal::Refusal;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// When calls that were not done for lack of room or time are told to come back.
const OVERLOADED_RETRY_MS: std::ops::RangeInclusive<u64> = 500..=2_000;

/// Serves the call, by the first part of its path after `/api`.
async fn route(path: &[&str], call: Call) -> Answer {
    match path {
        ["register" | "login" | "logout"] => accounts::route(path, call).await,
        ["admin", rest @ ..] => admin::route(rest, call).await,
        ["blocks", rest @ ..] => people::route_blocks(rest, call).await,
        ["conversations", rest @ ..] => conversations::route(rest, call).await,
        ["groups", rest @ ..] => groups::route(rest, call).await,
        ["presence", rest @ ..] => people::route_presence(rest, call).await,
        _ => Err(unknown()),
    }
}

/// 404: there is no such call.
pub(super) fn unknown() -> Refusal {
    Refusal::NotFound("no such call: see docs/protocol.md".to_owned())
}

/// 405: the path takes only these methods.
pub(super) fn only(allowed: &'static str) -> Refusal {
    Refusal::WrongMethod { allowed }
}

/// What all calls share.
struct Api {
    services: Services,
    operator: OperatorKey,
    by_address: Option<Rates<IpAddr>>,
    by_user: Option<Rates<UserId>>,
    places: Arc<Semaphore>,
    deadline: Duration,
}

/// All calls under `/api`.
pub(super) fn routes(services: Services) -> BoxedFilter<(Response,)> {
    let (limits, auth) = (&services.config.limits, &services.config.auth);
    let api = Arc::new(Api {
        operator: OperatorKey::new(auth.api_key.clone()),
        by_address: Rates::new(limits.address_calls_per_second, limits.address_calls_burst),
        by_user: Rates::new(limits.user_calls_per_second, limits.user_calls_burst),
        places: Arc::new(Semaphore::new(limits.http_calls_max)),
        deadline: Duration::from_millis(limits.request_deadline_ms),
        services,
    });
    warp::path("api")
        .and(warp::method())
        .and(warp::path::full())
        .and(query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Peer>())
        .and(warp::body::stream().map(boxed))
        .then(move |method, path: FullPath, query, headers, peer: Option<Peer>, body| {
            let request = Request { method, path: path.as_str().to_owned(), query, headers, peer, body };
            Arc::clone(&api).serve(request)
        })
        .boxed()
}

fn query() -> impl Filter<Extract = (String,), Error = std::convert::Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

fn boxed<B: Buf + Send + 'static>(body: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) -> Body {
    body.map(|part| part.map(|part| Box::new(part) as Box<dyn Buf + Send>)).boxed()
}

struct Request {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    peer: Option<Peer>,
    body: Body,
}

impl Api {
    async fn serve(self: Arc<Self>, request: Request) -> Response {
        if let Err(refused) = origin::check(&request.headers, &self.services.config.listen.allowed_origins) {
            return refusal(&refused);
        }
        let origin = request.headers.get(ORIGIN).cloned();
        let mut response = match origin::preflight(&request.method, &request.headers) {
            Some(preflight) => preflight,
            None => Self::answer(self, request).await.unwrap_or_else(|refused| refusal(&refused)),
        };
        origin::share(&mut response, origin.as_ref());
        response
    }

    async fn answer(self: Arc<Self>, request: Request) -> Answer {
        let trusted = &self.services.config.listen.trusted_proxies;
        let address = client_address(request.peer, &request.headers, trusted);
        let caller = self.caller(&request, address)?;
        let path = segments(&request.path)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refusal::Overloaded {
            message: "this gateway has as many calls at work as it can hold".to_owned(),
            retry_after_ms: rand::random_range(OVERLOADED_RETRY_MS),
        })?;
        let counts_from = Arc::new(Mutex::new(Instant::now()));
        let call = Call {
            services: self.services.clone(),
            address,
            method: request.method,
            headers: request.headers,
            query: request.query,
            caller,
            counts_from: Arc::clone(&counts_from),
            body: Mutex::new(Some(request.body)),
        };
        let mut task = self.services.shutdown.spawn(async move {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let answer = route(&path, call).await;
            drop(place);
            answer
        });
        loop {
            let due = *counts_from.lock() + self.deadline;
            match timeout_at(due, &mut task).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(panicked)) => {
                    tracing::error!(%panicked, "a call ended in a panic");
                    return Err(Refusal::Fault);
                }
                // The body came late, so that the time for the call itself is not over.
                Err(_) if *counts_from.lock() + self.deadline > due => {}
                Err(_) => return Err(too_late()),
            }
        }
    }

    /// Who calls, after the limits of its address and of the user. The operator has none: its calls come from few
    /// addresses.
    fn caller(&self, request: &Request, address: IpAddr) -> Result<Result<Caller, Refusal>, Refusal> {
        let operator = caller::operator(&self.operator, &request.headers);
        if let Ok(Some(operator)) = operator {
            return Ok(Ok(operator));
        }
        within(self.by_address.as_ref(), &network(address))?;
        if let Err(refused) = operator {
            return Ok(Err(refused));
        }
        let parameter = |name: &str| {
            let pairs = form_urlencoded::parse(request.query.as_bytes());
            pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
        };
        let (token, user_id) = (parameter("token"), parameter("user_id"));
        let claims = Claims { token: token.as_deref(), user_id: user_id.as_deref() };
        let mode = self.services.config.auth.mode;
        match caller::user(&self.services.tokens, mode, &request.headers, claims) {
            Ok(Some(login)) => {
                within(self.by_user.as_ref(), &login.user)?;
                Ok(Ok(Caller::User(login.user)))
            }
            Ok(None) => Ok(Err(Refusal::NotLoggedIn("send Authorization: Bearer <token>".to_owned()))),
            Err(refused) => Ok(Err(refused)),
        }
    }
}

fn within<K: Hash + Eq + Clone>(rates: Option<&Rates<K>>, key: &K) -> Result<(), Refusal> {
    rates.map_or(Ok(()), |rates| rates.take(key)).map_err(|retry_after_ms| Refusal::RateLimited {
        message: "you call more often than allowed: slow down and try again".to_owned(),
        retry_after_ms,
    })
}

fn too_late() -> Refusal {
    Refusal::Overloaded {
        message: "this took too long: it may or may not have been done".to_owned(),
        retry_after_ms: rand::random_range(OVERLOADED_RETRY_MS),
    }
}

/// The parts of a path after `/api`, each percent-decoded on its own, so that an id may contain a slash.
fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    let parts = path.strip_prefix("/api/").unwrap_or_default().split('/');
    parts
        .map(|part| match percent_decode_str(part).decode_utf8() {
            Ok(text) if text.is_empty() => Err(unknown()),
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(Refusal::malformed("the path is not UTF-8")),
        })
        .collect()
}

/// Where a request comes from: the last address in `X-Forwarded-For` that is none of our own proxies'. What stands before
/// it was written by the client and may be anything.
fn client_address(peer: Option<Peer>, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip()).to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    let mut nearest = peer;
    for field in headers.get_all(FORWARDED_FOR).iter().rev() {
        for address in field.to_str().unwrap_or_default().rsplit(',') {
            let Ok(address) = address.trim().parse::<IpAddr>() else { return nearest };
            nearest = address.to_canonical();
            if !is_trusted(&nearest) {
                return nearest;
            }
        }
    }
    nearest
}

/// Whoever has an IPv6 address has a whole /64 network of them.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_before_they_are_decoded() {
        assert_eq!(
            segments("/api/groups/group_%2F%C3%A9/members").unwrap(),
            ["groups", "group_/é", "members"]
        );
        assert_eq!(segments("/api/groups/%FF").unwrap_err().code(), 400);
        for path in ["/api", "/api/", "/api/groups/", "/api//x"] {
            assert_eq!(segments(path).unwrap_err().code(), 404, "{path}");
        }
    }

    #[test]
    fn only_our_own_proxies_are_believed() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let from = |peer: &str, forwarded: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_FOR, value.parse().unwrap());
            }
            let peer = Peer((peer.parse::<IpAddr>().unwrap(), 1).into());
            client_address(Some(peer), &headers, &trusted).to_string()
        };
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "not a proxy of ours");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(from("::ffff:10.0.0.1", &["1.1.1.1", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["198.51.100.7, nonsense"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn neighbours_in_ipv6_are_one() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
