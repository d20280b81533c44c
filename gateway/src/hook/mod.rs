//! The hook before sending: an endpoint of the app decides about messages before they are accepted.
//!
//! [`scope`] says about which messages it is asked, [`breaker`] whether it is called at all, [`endpoint`] calls it, and [`service`]
//! makes one decision of these. What becomes of the message is up to `send`.

mod breaker;
mod endpoint;
mod scope;
mod service;

pub(crate) use service::{Decision, Hook, HookGauges, Question};
