//! Adding rows, as the last statements of a transaction.

use std::fmt::Write as _;

use crate::feed::NewRow;
use crate::ids::unix_millis;

/// The request that adds `rows` (each of another shard, rising) and commits the transaction with `commit`.
///
/// Raising the head locks the row of the shard until the commit, so the next transaction takes the next position when this one
/// has ended. In one request, because the lock would otherwise be held for a round trip, and by a process that is frozen in
/// between for as long as that takes. The position is handed to the next statement by the session (`LAST_INSERT_ID`), because a
/// query within the `INSERT` costs the server more than both statements without it.
///
/// It fails if a shard does not exist: then the position is NULL, which the column refuses.
///
/// # Errors
/// A body cannot be written as JSON.
pub(in crate::mysql) fn append_and_commit(rows: &[NewRow], commit: &str) -> sqlx::Result<String> {
    text(rows, unix_millis(), commit)
}

/// Numbers and hexadecimal digits only are put into the text.
fn text(rows: &[NewRow], now: i64, commit: &str) -> sqlx::Result<String> {
    let mut text = String::new();
    for NewRow { shard, body } in rows {
        let body = body.to_json().map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        text.reserve(2 * body.len() + 300);
        let _ = write!(
            text,
            "UPDATE feed_shard SET head = LAST_INSERT_ID(head + 1) WHERE shard = {shard}; \
             INSERT INTO feed_change (shard, position, written_at, body) \
             VALUES ({shard}, IF(ROW_COUNT() = 1, LAST_INSERT_ID(), NULL), {now}, x'"
        );
        for byte in body {
            let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        text.push_str("'); ");
    }
    text.push_str(commit);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::FeedBody;
    use crate::ids::UserId;

    #[test]
    fn a_body_is_written_as_digits() {
        let body = FeedBody { profile: UserId::parse("o'b\\x").ok(), ..FeedBody::default() };
        let text = text(&[NewRow { shard: 3, body }], 5, "COMMIT").unwrap();
        assert!(text.ends_with(", 5, x'7b2270223a226f27625c5c78227d'); COMMIT"), "{text}");
    }
}
