//! Who may use which conversation.
//!
//! What connected users may do is kept in memory ([`cache`]), loaded at their login, so that a send asks nobody. Three
//! ways keep it true:
//!
//! * Events of gateways. Each group is a state machine ([`group_state`]) that applies changes in the order of the group's
//!   access version. A change that arrives before its predecessors is held, and nothing about the group is relied on
//!   meanwhile; if they do not arrive in time, the group is read again ([`reloader`]).
//! * The list of changes in the database, read each second ([`change_log`]), in case an event was lost. A gateway that
//!   has not read it for a while relies on nothing that it remembers ([`freshness`]), except that messages are still
//!   accepted while the database is unavailable.
//! * Barriers ([`barrier`]): a change through a gateway is answered when all live gateways ([`liveness`]) have applied it.
//!
//! What users have cleared is hidden from them like what came before they joined; it is kept beside ([`cleared`]), since it
//! outlasts memberships, and in the same three ways.
//!
//! [`view`] is the synchronous whole of cache, states and freshness, which the simulation drives; [`memberships`] and
//! [`require`] are the entrances for requests, [`group_changes`] the one for changes. A sender is checked once more at the
//! commit, under the lock of the change.

mod barrier;
mod cache;
mod change_log;
mod cleared;
mod departures;
mod event;
mod freshness;
mod group_changes;
mod group_event;
mod group_state;
mod inbox_updates;
mod liveness;
mod log_position;
mod memberships;
pub(crate) mod quotas;
mod recent_changes;
mod reloader;
mod reorder_buffer;
mod require;
#[cfg(test)]
mod simulation;
mod view;

pub(crate) use barrier::Barriers;
pub(crate) use change_log::follow_change_log;
pub(crate) use group_changes::{GroupChanges, SendEntries, Telling};
pub(crate) use inbox_updates::InboxUpdates;
pub(crate) use liveness::{Live, LiveGateways};
pub(crate) use memberships::{Memberships, OpenGroups};
pub(crate) use quotas::{QuotaSettings, Quotas};
pub(crate) use view::Loaded;
