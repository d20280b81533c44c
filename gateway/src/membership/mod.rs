//! Who may use which conversation.
//!
//! What connected users may do is kept in the [`Hub`], loaded at their login. Three ways keep it true:
//!
//! * Events of other gateways, applied in the order of the group's access version ([`Memberships::changed`]). One that
//!   comes before those it follows is held until they came, and nothing about the group is believed meanwhile; if they
//!   do not come soon, the group is read again.
//! * The list of changes in the database, read each second ([`feed`]), in case an event was lost. A gateway that has not
//!   read it for a while believes nothing that it remembers, except that messages are still accepted while the database
//!   is away.
//! * [`Fences`]: a change through a gateway is answered when all gateways have applied it.
//!
//! Whatever slips through is caught at the commit, which checks the sender under the lock of the change.

mod changes;
mod event;
mod feed;
mod fence;
mod freshness;
mod memberships;
mod refusals;

pub use changes::GroupChanges;
pub use feed::follow;
pub use fence::{Fences, GATEWAY_EXPIRY, LiveGateways};
pub use memberships::{Loaded, Memberships};
