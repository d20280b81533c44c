//! Groups: reading them, and changing them.
//!
//! A change is a value ([`CreateGroup`], [`AddMembers`], …) that [`change`] runs in one transaction: it locks the
//! conversation's row, checks the caller's right by the rule of [`permission`](crate::permission), changes the rows, and
//! raises the access version (see [`access`](super::access)). Gateways are told by the caller, not here.

mod change;
mod consent;
mod create;
mod error;
mod former_mutes;
mod invitations;
mod members;
mod policy;
mod read;
mod rows;
mod update;

pub use change::{Changed, GroupChange, change};
pub use consent::INVITATIONS_MAX;
pub use create::{CreateGroup, create_open};
pub use error::GroupError;
pub use invitations::{AcceptInvitation, Invitation, decline, invitations_of};
pub use members::{AddMembers, JoinGroup, MemberUpdate, RemoveMember, UpdateMember};
pub use policy::{ADDED_MAX, GroupPolicy, NAME_CHARS_MAX, NOTICE_BYTES_MAX, NewcomerHistory};
pub use read::{Group, find};
pub use update::{DismissGroup, UpdateGroup};
