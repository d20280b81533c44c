//! The HTTP side of a gateway: `/ws`, `/healthz`, `/readyz`, `/metrics`, and the calls under `/api`.
//!
//! A call is added in the file of its area: one line in the area's `route`, which matches method and path, and one
//! function, which reads what the [`Call`](call::Call) brought and returns an [`Answer`](answer::Answer). A new area gets
//! a line in `router`. Limits, deadline, cross-origin rules and the shape of errors are the same for all of them and are
//! `router`'s business.

mod accounts;
mod admin;
pub mod answer;
pub mod call;
mod client_address;
mod conversations;
mod groups;
pub mod origin;
mod paging;
mod people;
mod refusals;
mod router;
mod routes;
mod upgrade;

pub use routes::routes;
