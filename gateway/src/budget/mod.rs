//! What one user may make this gateway do: work for reads, and bytes of replies that wait to be read by the client.
//!
//! * [`rate`] is the rule of a budget by cost. Pure.
//! * [`user`] is the budget of one user: cost, concurrent reads, bytes of replies.
//! * [`budgets`] has the budgets of all users.
//! * [`reply_bytes`] bounds the bytes of replies per connection, user and process.
//!
//! Costs are in units of about 10 microseconds of processor time, the database's included: [`cost`] has them.

mod budgets;
pub(crate) mod cost;
mod rate;
mod reply_bytes;
mod settings;
mod user;

pub(crate) use budgets::Budgets;
pub(crate) use reply_bytes::{ReplyBytes, page_bytes, profiles_bytes};
pub(crate) use settings::BudgetSettings;
pub(crate) use user::{Payer, ReadPermit};
