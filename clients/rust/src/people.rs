//! Groups, blocks, invitations and profiles. An id is always named in the query string, which needs no rule for ids that
//! cannot stand in a path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::calls::Calls;
use crate::error::Error;

/// A page of a list, with the cursor of the next one if there is more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

/// A group to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewGroup {
    /// Its id, which begins with `group_`; the server makes one without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its members beside its owner.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Whether later members see only what comes after they joined.
    #[serde(rename = "history", serialize_with = "history", skip_serializing_if = "is_false")]
    pub hides_history: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn history<S: serde::Serializer>(hides: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *hides { "joining" } else { "start" })
}

/// A group that was made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MadeGroup {
    /// Its id.
    pub conversation_id: String,
    /// Users who want to be asked before they are members.
    #[serde(default)]
    pub invited: Vec<String>,
}

/// A group, as a member sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Group {
    /// Its id.
    pub conversation_id: String,
    /// Its name.
    pub name: String,
    /// The number of members.
    pub members: u64,
    /// Whether only owner and admins may send.
    pub muted: bool,
    /// `start` or `joining`: what later members see.
    pub history: String,
    /// Whether anyone may join by using it.
    pub open: bool,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// `owner`, `admin` or `member`: what this user is in it.
    pub role: String,
    /// A text of owner and admins for all.
    #[serde(default)]
    pub notice: String,
    /// A JSON object of the app's own.
    #[serde(default)]
    pub meta: Value,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The user.
    pub user_id: String,
    /// `owner`, `admin` or `member`.
    pub role: String,
    /// Milliseconds since 1970.
    pub join_time: i64,
    /// Milliseconds since 1970; 0 if it is not muted.
    pub muted_until: i64,
}

/// What a user shows to others.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Profile {
    /// The user.
    pub user_id: String,
    /// Shown instead of the id. Not unique.
    pub nickname: String,
    /// A JSON object of the app's own.
    #[serde(default)]
    pub meta: Value,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub updated_at: i64,
}

/// An open invitation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Invitation {
    /// The group.
    pub conversation_id: String,
    /// Its name.
    pub name: String,
    /// The user who invites.
    pub invited_by: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// How far a member has read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Position {
    /// The member.
    pub user_id: String,
    /// The sequence number.
    pub seq: u64,
}

#[derive(Deserialize)]
struct Listed<T> {
    #[serde(
        alias = "members",
        alias = "user_ids",
        alias = "invitations",
        alias = "positions",
        alias = "users"
    )]
    entries: Vec<T>,
    next_cursor: Option<String>,
}

impl<T> From<Listed<T>> for Page<T> {
    fn from(Listed { entries, next_cursor }: Listed<T>) -> Self {
        Self { entries, next_cursor }
    }
}

/// The parameters of a page: where it begins, after those that name the list.
fn paged<'a>(named: &[(&'a str, &'a str)], cursor: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    named.iter().copied().chain(cursor.map(|cursor| ("cursor", cursor))).collect()
}

/// Groups and their members.
#[derive(Clone, Copy)]
pub struct Groups<'a>(pub(crate) &'a Calls);

impl Groups<'_> {
    /// Makes a group, whose owner is this user.
    ///
    /// # Errors
    /// 409 if there is one of that id.
    pub async fn create(&self, group: &NewGroup) -> Result<MadeGroup, Error> {
        let body = serde_json::to_value(group).unwrap_or_default();
        self.0.call("POST", "/api/groups", &[], Some(&body)).await
    }

    /// What it is, and what this user is in it.
    ///
    /// # Errors
    /// 403 for those who are no members.
    pub async fn get(&self, id: &str) -> Result<Group, Error> {
        self.0.call("GET", "/api/groups/-", &[("conversation_id", id)], None).await
    }

    /// Changes what `change` names of `name`, `notice`, `meta`, `muted` and `history`, as owner or admin.
    ///
    /// # Errors
    /// 403 for other members.
    pub async fn update(&self, id: &str, change: &Value) -> Result<(), Error> {
        self.done("PATCH", "/api/groups/-", &[("conversation_id", id)], Some(change)).await
    }

    /// Dismisses it for good, as owner.
    ///
    /// # Errors
    /// 403 for others.
    pub async fn dismiss(&self, id: &str) -> Result<(), Error> {
        self.done("DELETE", "/api/groups/-", &[("conversation_id", id)], None).await
    }

    /// A page of its members, by the order of ids.
    ///
    /// # Errors
    /// 403 for those who are no members.
    pub async fn members(&self, id: &str, cursor: Option<&str>) -> Result<Page<Member>, Error> {
        let query = paged(&[("conversation_id", id)], cursor);
        let listed: Listed<Member> = self.0.call("GET", "/api/groups/-/members", &query, None).await?;
        Ok(listed.into())
    }

    /// Adds up to 1,000 members. Returns those who want to be asked first, and are invited.
    ///
    /// # Errors
    /// 403 for those who are neither owner nor admin.
    pub async fn add(&self, id: &str, user_ids: &[&str]) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Added {
            #[serde(default)]
            invited: Vec<String>,
        }
        let body = json!({"user_ids": user_ids});
        let query = [("conversation_id", id)];
        let added: Added = self.0.call("POST", "/api/groups/-/members", &query, Some(&body)).await?;
        Ok(added.invited)
    }

    /// Removes a member; with the own id: leaves.
    ///
    /// # Errors
    /// 403 without a higher role.
    pub async fn remove(&self, id: &str, user_id: &str) -> Result<(), Error> {
        let query = [("conversation_id", id), ("user", user_id)];
        self.done("DELETE", "/api/groups/-/members/-", &query, None).await
    }

    /// Changes what `change` names of a member's `role` and `muted_until`.
    ///
    /// # Errors
    /// 403 without the role that it needs.
    pub async fn set_member(&self, id: &str, user_id: &str, change: &Value) -> Result<(), Error> {
        let query = [("conversation_id", id), ("user", user_id)];
        self.done("PATCH", "/api/groups/-/members/-", &query, Some(change)).await
    }

    /// A page of how far its members have read.
    ///
    /// # Errors
    /// 403 for those who are no members.
    pub async fn positions(&self, id: &str, cursor: Option<&str>) -> Result<Page<Position>, Error> {
        let query = paged(&[("conversation_id", id)], cursor);
        let listed: Listed<Position> =
            self.0.call("GET", "/api/conversations/-/positions", &query, None).await?;
        Ok(listed.into())
    }

    async fn done(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(), Error> {
        self.0.call::<Value>(method, path, query, body).await.map(drop)
    }
}

/// Users whom this one has blocked.
#[derive(Clone, Copy)]
pub struct Blocks<'a>(pub(crate) &'a Calls);

impl Blocks<'_> {
    /// A page of them.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn list(&self, cursor: Option<&str>) -> Result<Page<String>, Error> {
        let listed: Listed<String> = self.0.call("GET", "/api/blocks", &paged(&[], cursor), None).await?;
        Ok(listed.into())
    }

    /// Blocks a user.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn add(&self, user_id: &str) -> Result<(), Error> {
        let body = json!({"user_id": user_id});
        self.0.call::<Value>("POST", "/api/blocks", &[], Some(&body)).await.map(drop)
    }

    /// Ends a block.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn remove(&self, user_id: &str) -> Result<(), Error> {
        self.0.call::<Value>("DELETE", "/api/blocks/-", &[("user", user_id)], None).await.map(drop)
    }
}

/// Invitations into groups.
#[derive(Clone, Copy)]
pub struct Invitations<'a>(pub(crate) &'a Calls);

impl Invitations<'_> {
    /// A page of the open ones.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn list(&self, cursor: Option<&str>) -> Result<Page<Invitation>, Error> {
        let query = paged(&[], cursor);
        let listed: Listed<Invitation> = self.0.call("GET", "/api/invitations", &query, None).await?;
        Ok(listed.into())
    }

    /// Accepts: this user is a member.
    ///
    /// # Errors
    /// 404 if it is not open any more.
    pub async fn accept(&self, id: &str) -> Result<(), Error> {
        self.answer("POST", id).await
    }

    /// Declines.
    ///
    /// # Errors
    /// 404 if it is not open any more.
    pub async fn decline(&self, id: &str) -> Result<(), Error> {
        self.answer("DELETE", id).await
    }

    async fn answer(&self, method: &str, id: &str) -> Result<(), Error> {
        let query = [("conversation_id", id)];
        self.0.call::<Value>(method, "/api/invitations/-", &query, None).await.map(drop)
    }
}

/// Profiles of users.
#[derive(Clone, Copy)]
pub struct Profiles<'a>(pub(crate) &'a Calls);

impl Profiles<'_> {
    /// Those of up to 100 users. Users who have neither a profile nor an account are left out.
    ///
    /// # Errors
    /// 400 for more users.
    pub async fn get(&self, user_ids: &[&str]) -> Result<Vec<Profile>, Error> {
        let body = json!({"user_ids": user_ids});
        let listed: Listed<Profile> = self.0.call("POST", "/api/users", &[], Some(&body)).await?;
        Ok(listed.entries)
    }

    /// The own one.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn me(&self) -> Result<Profile, Error> {
        self.0.call("GET", "/api/users/me", &[], None).await
    }

    /// Changes what `change` names of `nickname` and `meta`.
    ///
    /// # Errors
    /// 400 for a nickname that is not allowed.
    pub async fn update(&self, change: &Map<String, Value>) -> Result<Profile, Error> {
        let body = Value::Object(change.clone());
        self.0.call("PATCH", "/api/users/me", &[], Some(&body)).await
    }
}

/// Which of up to 100 users are connected; users that one may not ask about are left out.
pub(crate) async fn presence(calls: &Calls, user_ids: &[&str]) -> Result<BTreeMap<String, bool>, Error> {
    #[derive(Deserialize)]
    struct User {
        user_id: String,
        online: bool,
    }
    let body = json!({"user_ids": user_ids});
    let listed: Listed<User> = calls.call("POST", "/api/presence", &[], Some(&body)).await?;
    Ok(listed.entries.into_iter().map(|user| (user.user_id, user.online)).collect())
}
