//! The HTTP side of a gateway: `/ws`, `/healthz`, `/readyz`, the calls under `/api`, and the web client.
//!
//! To add a call: one line in the `route` function of its area's file, which matches method and path, and one function,
//! which reads the parameters from the [`Call`](call::Call) and returns an [`Answer`](answer::Answer). A new area gets a
//! line in `router`, which applies limits, deadline, cross-origin policy and error format to all calls. Every call stands
//! in `docs/api/openapi.yaml`; a test compares both.

mod accounts;
mod admin;
mod answer;
mod body;
mod call;
mod client_address;
mod conversation_id;
mod conversations;
mod cors;
mod deps;
mod feed;
mod file_bytes;
mod files;
mod groups;
mod handshake;
mod head;
mod invitations;
mod one_message;
mod paging;
mod path;
mod people;
mod places;
mod profile_fields;
mod push;
mod query;
mod refusals;
mod router;
mod routes;
mod send;
mod settings;
mod specification;
mod upgrade;
mod uploads;
mod user_feed;
mod users;
mod version;
mod views;
mod web;
mod webhooks;

pub(crate) use deps::Deps;
pub(crate) use routes::routes;
pub(crate) use settings::HttpSettings;
