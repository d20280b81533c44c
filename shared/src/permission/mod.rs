//! Who may do what: one vocabulary and one rule for gateways and workers.
//!
//! Pure. The facts come from the database; a gateway caches them, a worker reads them under the lock of the commit. The
//! rule is [`Relation::check`]. A [`Denied`] becomes a sentence for clients in the gateway only.

mod denied;
mod membership;
mod roster;
mod rule;

pub use denied::Denied;
pub use membership::{Actor, GroupAdds, GroupSettings, HistoryRange, MemberStatus, Membership, Role};
pub use roster::{GroupRoster, Roster};
pub use rule::{Action, ChangeTarget, EVERYONE_MEMBERS_MAX, EditTarget, Permissions, RecallTarget, Relation};
