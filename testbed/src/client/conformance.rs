//! Checks that what a client receives conforms to `docs/api`: in tests, which enable the feature `spec`.

use im_client::protocol::Inspector;

#[cfg(feature = "spec")]
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "spec")]
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Checks all that clients of this process receive from here on, if the feature is on.
pub(crate) fn enable() {
    #[cfg(feature = "spec")]
    IS_ON.store(true, Ordering::Relaxed);
}

/// What clients show their frames and answers to.
#[cfg(feature = "spec")]
pub(super) const INSPECTOR: Option<Inspector> = Some(check);
/// Without the feature: nothing.
#[cfg(not(feature = "spec"))]
pub(super) const INSPECTOR: Option<Inspector> = None;

#[cfg(feature = "spec")]
fn check(received: &im_client::protocol::Received<'_>) -> Result<(), String> {
    use im_client::protocol::{Exchange, Received};

    if !IS_ON.load(Ordering::Relaxed) {
        return Ok(());
    }
    match *received {
        Received::Frame(text) => {
            let frame = serde_json::from_str(text).map_err(|error| format!("{text}: {error}"))?;
            let conforms = spec::api().check_server_frame(&frame);
            conforms.map_err(|fault| format!("the frame {text} does not conform to docs/api: {fault}"))
        }
        Received::Answer(Exchange { method, path, request, status, content_type, body }) => {
            let exchange = spec::Exchange { method, path, request, status, content_type, body };
            spec::api().check_exchange(&exchange).map_err(|fault| format!("{fault}: {body}"))
        }
    }
}

/// Checks the body of a call of a webhook, if the feature is on.
///
/// # Errors
/// What does not conform.
#[cfg(feature = "spec")]
pub(super) fn check_call(body: &serde_json::Value) -> Result<(), String> {
    if !IS_ON.load(Ordering::Relaxed) {
        return Ok(());
    }
    let conforms =
        spec::api().check("openapi.yaml#/components/schemas/WebhookCall", body, spec::Strictness::Closed);
    conforms.map_err(|fault| format!("{fault}: {body}"))
}

/// Without the feature nothing is checked.
#[cfg(not(feature = "spec"))]
pub(super) fn check_call(_: &serde_json::Value) -> Result<(), String> {
    Ok(())
}
