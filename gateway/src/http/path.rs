//! The path of a call: its segments, and ids that are named in the query string instead.
//!
//! Not every id can stand in a path. Clients and proxies fold the segments `.` and `..` away, also percent-encoded, and
//! some proxies decode `%2F`. So each segment for an id may be written `-`, with the id in a parameter: `conversation_id`
//! after `conversations`, `groups` and `invitations`, and `user` after `blocks`, `members` and `users`. Without that
//! parameter `-` stands for itself: it is a valid user id.

use percent_encoding::percent_decode_str;

use super::query;
use super::refusals::not_found;
use crate::wire::api_error::ApiError;

/// Stands for an id that is named in the query string.
pub(super) const NAMED: &str = "-";
/// The parameter with the id of a conversation.
const CONVERSATION: &str = "conversation_id";
/// The parameter with the id of a user. (`user_id` names the caller.)
pub(super) const USER: &str = "user";

/// The segments after `/api`, with the ids that `query` names; none for `/api` itself. Each is decoded on its own, so that an
/// id may contain a slash.
///
/// # Errors
/// 404 for an empty segment, 400 for one that is not UTF-8.
pub(super) fn segments(path: &str, query: &str) -> Result<Vec<String>, ApiError> {
    if path == "/api" {
        return Ok(Vec::new());
    }
    let parts = path.strip_prefix("/api/").unwrap_or_default().split('/');
    let decoded = parts.map(|part| match percent_decode_str(part).decode_utf8() {
        Ok(text) if text.is_empty() => Err(not_found()),
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(ApiError::malformed("the path is not UTF-8")),
    });
    let mut segments: Vec<String> = decoded.collect::<Result<_, _>>()?;
    let mut at = 1;
    while at < segments.len() {
        let Some(parameter) = parameter_after(&segments[at - 1]) else {
            at += 1;
            continue;
        };
        if segments[at] == NAMED
            && let Some(id) = query::parameter(query, parameter)
        {
            // With both names the call itself refuses it, after its method.
            if segments[at - 1] != "conversations" || query::parameter(query, "to").is_none() {
                segments[at] = id.into_owned();
            }
        }
        // What follows an id is no id, although a user may be called "members".
        at += 2;
    }
    Ok(segments)
}

/// The parameter that may name the id after this segment.
fn parameter_after(segment: &str) -> Option<&'static str> {
    match segment {
        "conversations" | "groups" | "invitations" => Some(CONVERSATION),
        "blocks" | "members" | "users" => Some(USER),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_before_they_are_decoded() {
        assert_eq!(
            segments("/api/groups/group_%2F%C3%A9/members", "").unwrap(),
            ["groups", "group_/é", "members"]
        );
        assert_eq!(segments("/api/groups/%FF", "").unwrap_err().code(), 400);
        assert!(segments("/api", "").unwrap().is_empty());
        for path in ["/api/", "/api/groups/", "/api//x"] {
            assert_eq!(segments(path, "").unwrap_err().code(), 404, "{path}");
        }
    }

    #[test]
    fn a_dash_stands_for_the_id_that_the_query_names() {
        for (path, query, expected) in [
            ("blocks/-", "user=..", "blocks .."),
            ("blocks/-", "user=a%2Cb%2F%2B", "blocks a,b/+"),
            ("blocks/-", "", "blocks -"),
            ("blocks/-", "user_id=alice", "blocks -"),
            ("blocks/bob", "user=..", "blocks bob"),
            ("groups/-/members/-", "conversation_id=group_x&user=.", "groups group_x members ."),
            ("groups/group_x/members/-", "user=.", "groups group_x members ."),
            ("groups/-", "user=.", "groups -"),
            ("conversations/-/messages", "conversation_id=private_a_b", "conversations private_a_b messages"),
            ("conversations/-/messages", "to=bob", "conversations - messages"),
            ("conversations/-/messages", "conversation_id=group_x&to=bob", "conversations - messages"),
            ("invitations/-", "conversation_id=group_x", "invitations group_x"),
            ("admin/users/-/revoke", "user=..", "admin users .. revoke"),
            ("admin/users/users/-", "user=..", "admin users users -"),
            ("-/groups", "conversation_id=group_x", "- groups"),
        ] {
            let found = segments(&format!("/api/{path}"), query).unwrap();
            assert_eq!(found.join(" "), expected, "{path}?{query}");
        }
    }
}
