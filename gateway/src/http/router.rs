//! The entry of all calls under `/api`: limits, deadline, cross-origin policy, error format, and the path to the area.
//!
//! Paths are matched by plain code, not by one warp filter each: warp offers a request that one filter rejects (because
//! its body is not JSON) to all other filters, and the error that the client gets depends on their order.
//!
//! A call that has begun runs to its end even if the client disconnects or the deadline passes, so that a committed change
//! is also announced. A drain waits for it.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Buf;
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use shared::ids::UserId;
use shared::shutdown::Shutdown;
use tokio::time::{Instant, timeout_at};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::ORIGIN;
use warp::http::{HeaderMap, Method};
use warp::path::FullPath;
use warp::reply::Response;

use super::answer::{Answer, options, refusal};
use super::call::{Body, Call};
use super::client_address::client_address;
use super::deps::Deps;
use super::places::Places;
use super::refusals::not_found;
use super::{
    accounts, admin, conversations, cors, files, groups, head, invitations, path, people, push, query,
    specification, uploads, user_feed, users, version,
};
use crate::auth::caller::{self, Caller, Claims};
use crate::budget::{Payer, cost};
use crate::config::Limits;
use crate::listen::{Peer, network};
use crate::rates::{Rate, Rates};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// Serves the call by the first segment of its path after `/api`.
async fn route(path: &[&str], call: Call) -> Answer {
    match path {
        [] => version::route(&call),
        ["register" | "login" | "logout"] => accounts::route(path, call).await,
        ["admin", rest @ ..] => admin::route(rest, call).await,
        ["blocks", rest @ ..] => people::route_blocks(rest, call).await,
        ["conversations", rest @ ..] => conversations::route(rest, call).await,
        ["feed", rest @ ..] => user_feed::route(rest, call).await,
        ["files", rest @ ..] => files::route(rest, call).await,
        ["groups", rest @ ..] => groups::route(rest, call).await,
        ["invitations", rest @ ..] => invitations::route(rest, call).await,
        ["presence", rest @ ..] => people::route_presence(rest, call).await,
        ["push", rest @ ..] => push::route(rest, call).await,
        ["settings", rest @ ..] => invitations::route_settings(rest, call).await,
        ["uploads", rest @ ..] => uploads::route(rest, call).await,
        ["users", "me", "password"] => accounts::route(path, call).await,
        ["users", rest @ ..] => users::route(rest, call).await,
        ["openapi.yaml" | "asyncapi.yaml" | "schemas", ..] => specification::route(path, call).await,
        _ => Err(not_found()),
    }
}

/// The state that all calls share.
struct Router {
    deps: Arc<Deps>,
    by_address: Rates<IpAddr>,
    by_user: Rates<UserId>,
    places: Places,
}

/// All calls under `/api`.
pub(super) fn routes(deps: Arc<Deps>) -> BoxedFilter<(Response,)> {
    let live = Arc::clone(&deps.live);
    let limits = &live.now().limits;
    let router = Arc::new(Router {
        by_address: Rates::new(address_rate(limits)),
        by_user: Rates::new(user_rate(limits)),
        places: Places::new(limits.http_calls_max, limits.address_calls_at_once),
        deps,
    });
    live.follow(&router, |router, config, tasks| router.set_limits(&config.limits, tasks));
    warp::path("api")
        .and(warp::method())
        .and(warp::path::full())
        .and(query::text())
        .and(head::headers())
        .and(warp::ext::optional::<Peer>())
        .and(warp::body::stream().map(boxed))
        .then(move |method, path: FullPath, query, headers, peer: Option<Peer>, body| {
            let request = Request { method, path: path.as_str().to_owned(), query, headers, peer, body };
            Arc::clone(&router).serve(request)
        })
        .boxed()
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

fn address_rate(limits: &Limits) -> Rate {
    Rate::per_second(limits.address_calls_per_second, limits.address_calls_burst)
}

fn user_rate(limits: &Limits) -> Rate {
    Rate::per_second(limits.user_calls_per_second, limits.user_calls_burst)
}

impl Router {
    /// Applies those of `limits` that can change while the process runs.
    fn set_limits(&self, limits: &Limits, tasks: &Shutdown) {
        self.by_address.set(address_rate(limits));
        self.by_user.set(user_rate(limits));
        self.places.resize(limits.http_calls_max, limits.address_calls_at_once, tasks);
        self.deps.settings.set_limits(limits);
    }

    async fn serve(self: Arc<Self>, request: Request) -> Response {
        if let Err(refused) = self.deps.settings.cross_origin.check(&request.headers) {
            return refusal(&refused);
        }
        let origin = request.headers.get(ORIGIN).cloned();
        let is_options = request.method == Method::OPTIONS;
        let mut response = match cors::preflight(&request.method, &request.headers) {
            Some(preflight) => preflight,
            None => match Self::answer(self, request).await {
                Ok(response) => response,
                Err(ApiError::MethodNotAllowed { allowed }) if is_options => options(allowed),
                Err(refused) => refusal(&refused),
            },
        };
        cors::allow(&mut response, origin.as_ref());
        response
    }

    async fn answer(self: Arc<Self>, request: Request) -> Answer {
        let trusted = &self.deps.settings.trusted_proxies;
        let address = client_address(request.peer, &request.headers, trusted);
        let caller = self.caller(&request, address)?;
        let payer = self.payer(&caller)?;
        let path = path::segments(&request.path, &request.query)?;
        let place = self.places.take(&caller, network(address))?;
        let deadline_start = Arc::new(Mutex::new(Instant::now()));
        // The same answer; hyper sends its head only.
        let method = if request.method == Method::HEAD { Method::GET } else { request.method };
        let call = Call {
            deps: Arc::clone(&self.deps),
            address,
            method,
            headers: request.headers,
            query: request.query,
            caller,
            payer,
            deadline_start: Arc::clone(&deadline_start),
            body: Mutex::new(Some(request.body)),
            place: Mutex::new(place),
        };
        let mut task = self.deps.shutdown.spawn(async move {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            route(&path, call).await
        });
        loop {
            let deadline = *deadline_start.lock() + self.deps.settings.deadline;
            match timeout_at(deadline, &mut task).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(panicked)) => {
                    tracing::error!(%panicked, "an HTTP call panicked");
                    return Err(ApiError::Internal);
                }
                // The body arrived meanwhile, which restarted the deadline.
                Err(_) if *deadline_start.lock() + self.deps.settings.deadline > deadline => {}
                Err(_) => return Err(deadline_passed()),
            }
        }
    }

    /// The caller, within the rate limits of its address and user. The operator has no limit, since its calls come from
    /// few addresses. The inner error is the caller's: calls without authentication ignore it.
    fn caller(&self, request: &Request, address: IpAddr) -> Result<Result<Caller, ApiError>, ApiError> {
        let parameter = |name| query::parameter(&request.query, name);
        let (token, user_id) = (parameter("token"), parameter("user_id"));
        let claims = Claims { token: token.as_deref(), user_id: user_id.as_deref() };
        let operator = caller::operator(&self.deps.settings.operator, &request.headers, claims);
        if let Ok(Some(operator)) = operator {
            return Ok(Ok(operator));
        }
        take_token(&self.by_address, &network(address))?;
        if let Err(refused) = operator {
            return Ok(Err(refused));
        }
        let mode = self.deps.settings.auth_mode;
        match caller::user(&self.deps.tokens, mode, &request.headers, claims) {
            Ok(Some(login)) => {
                take_token(&self.by_user, &login.user)?;
                Ok(Ok(Caller::User(login.user)))
            }
            Ok(None) => Ok(Err(ApiError::Unauthenticated("send Authorization: Bearer <token>".to_owned()))),
            Err(refused) => Ok(Err(refused)),
        }
    }
}

impl Router {
    /// Who pays for the call: the user, unless it has to wait until its budget recovers. Calls without authentication
    /// read nothing.
    fn payer(&self, caller: &Result<Caller, ApiError>) -> Result<Payer, ApiError> {
        let Ok(Caller::User(user)) = caller else { return Ok(Payer::Operator) };
        let budget = self.deps.budgets.of(user);
        if !budget.wait().is_zero() {
            return Err(budget.exceeded());
        }
        budget.spend(cost::CALL);
        Ok(Payer::User(budget))
    }
}

fn take_token<K: Hash + Eq + Clone>(rates: &Rates<K>, key: &K) -> Result<(), ApiError> {
    rates.take(key).map_err(|retry_after_ms| ApiError::RateLimited {
        message: "you exceed the rate limit: slow down and try again".to_owned(),
        retry_after_ms,
    })
}

fn deadline_passed() -> ApiError {
    let message = "the call took too long: it may have been done or not";
    ApiError::unavailable(message, RetryDelay::StoreUnavailable)
}
