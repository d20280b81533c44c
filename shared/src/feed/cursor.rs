//! A place in a shard of the feed.

use std::fmt;
use std::str::FromStr;

/// How far a reader has read a shard. Its text is `17`, or `17.3` within a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    /// The last row that is read to its end; 0 before the first row.
    pub position: u64,
    /// How much of the next row is read, in numbers of entries and of other events.
    pub index: u64,
}

impl Cursor {
    /// The end of the row at `position`.
    #[must_use]
    pub fn after(position: u64) -> Self {
        Self { position, index: 0 }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            0 => write!(f, "{}", self.position),
            index => write!(f, "{}.{index}", self.position),
        }
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cursor must be the cursor of an event or the next_cursor of a page")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number: &u64| digits && i64::try_from(*number).is_ok()).ok_or(BadCursor)
        };
        let (position, index) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self { position: number(position)?, index: number(index)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for cursor in [Cursor::default(), Cursor::after(7), Cursor { position: 7, index: 12 }] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", ".", "1.", ".1", "-1", "+1", "1.x", "1.2.3", " 1", "9223372036854775808"] {
            assert_eq!(text.parse::<Cursor>(), Err(BadCursor), "{text:?}");
        }
    }
}
