//! Refusals that many calls share.

use crate::wire::refusal::Refusal;

/// 404: there is no such call.
pub(super) fn not_found() -> Refusal {
    Refusal::NotFound("no such call: see docs/protocol.md".to_owned())
}

/// 405: the path takes only these methods.
pub(super) fn method_not_allowed(allowed: &'static str) -> Refusal {
    Refusal::WrongMethod { allowed }
}
