//! `/api/push`: devices that take notifications.

use std::sync::Arc;

use serde::Serialize;

use super::answer::{Answer, done, json};
use super::call::Call;
use super::refusals::{method_not_allowed, not_found};
use crate::notifications::{Notifications, Registration, subscription_view};
use crate::wire::api_error::ApiError;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", ["config"]) => config(&call),
        ("GET", ["subscriptions"]) => list(&call).await,
        ("POST", ["subscriptions"]) => register(&call).await,
        ("DELETE", ["subscriptions", id]) => remove(id, &call).await,
        (_, ["config"]) => Err(method_not_allowed("GET")),
        (_, ["subscriptions"]) => Err(method_not_allowed("GET, POST")),
        (_, ["subscriptions", _]) => Err(method_not_allowed("DELETE")),
        _ => Err(not_found()),
    }
}

fn service(call: &Call) -> Result<Arc<Notifications>, ApiError> {
    call.caller()?;
    let off = || ApiError::NotFound("notifications are off on this server: push.enabled".to_owned());
    call.deps.notifications.clone().ok_or_else(off)
}

#[derive(Serialize)]
struct Config {
    enabled: bool,
    services: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vapid_public_key: Option<String>,
}

fn config(call: &Call) -> Answer {
    let service = service(call)?;
    json(&Config {
        enabled: true,
        services: service.services(),
        vapid_public_key: service.vapid_public_key(),
    })
}

#[derive(Serialize)]
struct Registered {
    id: String,
}

async fn register(call: &Call) -> Answer {
    let (service, user) = (service(call)?, call.user()?);
    let registration: Registration = call.json().await?;
    json(&Registered { id: service.register(user, registration).await? })
}

#[derive(Serialize)]
struct Listed<S> {
    subscriptions: Vec<S>,
}

async fn list(call: &Call) -> Answer {
    let (service, user) = (service(call)?, call.user()?);
    let stored = service.list(user).await?;
    json(&Listed { subscriptions: stored.iter().map(subscription_view).collect::<Vec<_>>() })
}

async fn remove(id: &str, call: &Call) -> Answer {
    let (service, user) = (service(call)?, call.user()?);
    service.remove(user, id).await?;
    done()
}
