//! Checks that what a client receives conforms to `docs/api`: in tests, which enable the feature `spec`.

#[cfg(feature = "spec")]
use std::sync::atomic::{AtomicBool, Ordering};

/// An HTTP call and its answer.
#[cfg_attr(not(feature = "spec"), expect(dead_code, reason = "read by the checks only"))]
pub(super) struct Called<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) request: Option<&'a serde_json::Value>,
    pub(super) status: u16,
    pub(super) content_type: Option<&'a str>,
    pub(super) body: &'a str,
}

#[cfg(feature = "spec")]
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Checks all that clients of this process receive from here on, if the feature is on.
pub(crate) fn enable() {
    #[cfg(feature = "spec")]
    IS_ON.store(true, Ordering::Relaxed);
}

/// Checks a frame from the server.
///
/// # Errors
/// What does not conform.
#[cfg(feature = "spec")]
pub(super) fn check_frame(text: &str) -> anyhow::Result<()> {
    if !IS_ON.load(Ordering::Relaxed) {
        return Ok(());
    }
    let frame = serde_json::from_str(text)?;
    let conforms = spec::api().check_server_frame(&frame);
    conforms.map_err(|fault| anyhow::anyhow!("the frame {text} does not conform to docs/api: {fault}"))
}

/// Checks an answer.
///
/// # Errors
/// What does not conform.
#[cfg(feature = "spec")]
pub(super) fn check_call(called: &Called<'_>) -> anyhow::Result<()> {
    if !IS_ON.load(Ordering::Relaxed) {
        return Ok(());
    }
    let Called { method, path, request, status, content_type, body } = *called;
    let exchange = spec::Exchange { method, path, request, status, content_type, body };
    spec::api().check_exchange(&exchange).map_err(|fault| anyhow::anyhow!("{fault}: {body}"))
}

#[cfg(not(feature = "spec"))]
pub(super) fn check_frame(_text: &str) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(not(feature = "spec"))]
pub(super) fn check_call(_called: &Called<'_>) -> anyhow::Result<()> {
    Ok(())
}
