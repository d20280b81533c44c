//! Webhooks: endpoints of an app that are told what the change feed has, in batches that are signed by Standard Webhooks.
//!
//! [`reader`] is the reader of the change feed that [`Readers`](crate::feed::Readers) runs, one task for each webhook and shard
//! of the feed; [`service`] is what they share. [`delivery`] is that task: it reads, calls, and moves the stored place. [`batch`] makes bodies of events, [`call`] is one
//! signed call, [`definitions`] follows what operators change, [`lag`] is what the gauges show, [`one_off`] and [`view`] are for operators, and for imctl.
//!
//! An endpoint gets each event at least once: the place moves after the answer. It gets the events of a shard in their order,
//! because the next call begins after the one before has succeeded, in this gateway or in the next one that has the lease.

mod batch;
mod call;
mod definitions;
mod delivery;
mod lag;
mod one_off;
mod reader;
mod service;
mod view;

pub use one_off::{Tested, check_url, test};
pub(crate) use service::Webhooks;
pub use view::{WebhookView, views};
