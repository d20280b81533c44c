//! The errors of changes.

use crate::ids::UserId;
use crate::mysql::TxError;
use crate::permission::Denied;

/// The reason why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The caller may not make it.
    #[error("not allowed: {0:?}")]
    Denied(Denied),
    /// The name of the group is taken.
    #[error("the group exists already")]
    Exists,
    /// The user to change or to remove is not a member of the group.
    #[error("no such member")]
    NoSuchMember,
    /// These users have blocked the caller.
    #[error("blocked by {} users", .0.len())]
    Refused(Vec<UserId>),
    /// The user was not invited, or the one who invited may not add members any more.
    #[error("no invitation")]
    NoInvitation,
    /// The user has as many open invitations as allowed.
    #[error("{0} has too many invitations")]
    TooManyInvitations(UserId),
    /// The group would have more members than this.
    #[error("more than {0} members")]
    Full(u32),
    /// The avatar is no file that may be shown, or it has gone.
    #[error("the avatar has gone")]
    AvatarGone,
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl From<Denied> for GroupError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl TxError for GroupError {
    fn sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Sql(error) => Some(error),
            _ => None,
        }
    }
}
