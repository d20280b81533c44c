//! Cursors after which nothing can be read any more, and where their readers go on.

use shared::feed::{Cursor, Cursors};
use shared::mysql::feed::Extent;

use crate::wire::api_error::ApiError;

/// Why no events are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The cursor is outside of the feed.
    Outside {
        why: Outside,
        /// The position to go on after.
        go_on: u64,
    },
    /// Try again.
    Unavailable(ApiError),
}

/// Why a cursor cannot be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Outside {
    /// The events after it are removed.
    #[error("the events after this cursor are removed, because they are older than feed.keep_s = {keep_s} s")]
    Removed { keep_s: u32 },
    /// The feed ends before it.
    #[error("the feed ends before this cursor: the database is that of an earlier time")]
    Ahead,
}

impl From<ApiError> for ReadError {
    fn from(error: ApiError) -> Self {
        Self::Unavailable(error)
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Outside { why, go_on } => why.refusal(Cursor::after(go_on).to_string()),
            ReadError::Unavailable(error) => error,
        }
    }
}

/// Whether `cursor` is outside of `extent`, and the position inside after which it goes on.
fn outside(cursor: Cursor, Extent { before, head, .. }: Extent, keep_s: u32) -> Option<(Outside, u64)> {
    if cursor.position < before {
        return Some((Outside::Removed { keep_s }, before));
    }
    (cursor > Cursor::after(head)).then_some((Outside::Ahead, head))
}

impl Outside {
    fn refusal(self, next_cursor: String) -> ApiError {
        let message = match self {
            Self::Removed { .. } => format!(
                "{self}: go on with cursor={next_cursor}, before the oldest that is kept, and read what is missing from the \
                 conversations"
            ),
            Self::Ahead => format!(
                "{self}. Go on with cursor={next_cursor}, at the end of the feed, and compare with the conversations"
            ),
        };
        ApiError::Gone { message: message.into(), next_cursor: next_cursor.into() }
    }
}

/// Checks a cursor of one shard after which no event was found.
///
/// # Errors
/// [`ReadError::Outside`]
pub(super) fn check(cursor: Cursor, extent: Extent, keep_s: u32) -> Result<(), ReadError> {
    let refused = |(why, go_on)| Err(ReadError::Outside { why, go_on });
    outside(cursor, extent, keep_s).map_or(Ok(()), refused)
}

/// The same for the cursors of all shards: the others stay as they are.
///
/// # Errors
/// 410
pub(super) fn check_all(cursors: &Cursors, extents: &[Extent], keep_s: u32) -> Result<(), ApiError> {
    let (mut next, mut why) = (cursors.clone(), None);
    for extent in extents {
        if let Some((outside, go_on)) = outside(cursors.of(extent.shard), *extent, keep_s) {
            next.set(extent.shard, Cursor::after(go_on));
            why = why.or(Some(outside));
        }
    }
    why.map_or(Ok(()), |why| Err(why.refusal(next.to_string())))
}

#[cfg(test)]
mod tests {
    use shared::feed::FeedShards;

    use super::*;

    fn next_cursor(refused: Result<(), ApiError>) -> String {
        let Err(ApiError::Gone { message, next_cursor }) = refused else { panic!("{refused:?}") };
        assert!(message.contains(&format!("cursor={next_cursor},")), "{message}");
        next_cursor.into()
    }

    #[test]
    fn a_cursor_outside_of_the_feed_is_told_where_to_go_on() {
        let extent = Extent { shard: 0, before: 4, head: 9 };
        let check = |cursor: &str| check(cursor.parse().unwrap(), extent, 60).map_err(ApiError::from);
        for cursor in ["0", "3", "3.7"] {
            assert_eq!(next_cursor(check(cursor)), "4", "{cursor}");
        }
        for cursor in ["9.1", "10"] {
            assert_eq!(next_cursor(check(cursor)), "9", "{cursor}");
        }
        for cursor in ["4", "4.1", "8.3", "9"] {
            assert_eq!(check(cursor), Ok(()), "{cursor}");
        }
        let empty = Extent { before: 9, ..extent };
        assert_eq!(super::check(Cursor::after(9), empty, 60), Ok(()));
        assert!(super::check(Cursor::after(8), empty, 60).is_err());
    }

    #[test]
    fn shards_that_have_lost_nothing_go_on_where_they_were() {
        let shards = FeedShards::new(3).unwrap();
        let extents =
            [(0, 4, 9), (1, 0, 5), (2, 7, 7)].map(|(shard, before, head)| Extent { shard, before, head });
        let cursors =
            |positions: [u64; 3]| Cursors::new(shards, |shard| Cursor::after(positions[usize::from(shard)]));
        assert_eq!(check_all(&cursors([4, 5, 7]), &extents, 60), Ok(()));
        for (given, next) in [([2, 3, 7], [4, 3, 7]), ([2, 3, 8], [4, 3, 7]), ([9, 6, 7], [9, 5, 7])] {
            let next_cursor = next_cursor(check_all(&cursors(given), &extents, 60));
            assert_eq!(Cursors::parse(&next_cursor, shards), Ok(cursors(next)), "{given:?}");
        }
    }
}
