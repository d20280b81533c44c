//! One text for the places in all shards.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::encoding::{decode_varint, encode_varint};
use xxhash_rust::xxh64::xxh64;

use super::cursor::Cursor;
use super::shards::FeedShards;

/// The first byte of all texts of this form.
const VERSION: u8 = 1;
/// Bytes of the checksum, which tells a text that was cut or changed from a cursor.
const CHECKSUM: usize = 2;

/// How far a reader has read each shard. Its text is Base64 of a version, a number for each shard (the position, twice; one
/// more if a part of the next row is read, and the index after it), and a checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursors(Vec<Cursor>);

/// Why a text is not taken as a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCursors {
    /// It was not written by this program, or was changed.
    #[error(
        "cursor must be the cursor of an event or the next_cursor of a page of this call, as it was given"
    )]
    Malformed,
    /// It was written by a later version.
    #[error("cursor was given by a later version of this server: ask a gateway of that version")]
    Later,
    /// It was written by a deployment with another number of shards.
    #[error("cursor is of another deployment: its feed has {of_cursor} shards, this one has {of_feed}")]
    OtherFeed {
        /// The shards of the cursor.
        of_cursor: usize,
        /// The shards of the feed.
        of_feed: u16,
    },
}

impl Cursors {
    /// One cursor for each of `shards`.
    #[must_use]
    pub fn new(shards: FeedShards, of: impl FnMut(u16) -> Cursor) -> Self {
        Self(shards.all().map(of).collect())
    }

    /// How far `shard` is read.
    #[must_use]
    pub fn of(&self, shard: u16) -> Cursor {
        self.0.get(usize::from(shard)).copied().unwrap_or_default()
    }

    /// `shard` is read up to `cursor`.
    pub fn set(&mut self, shard: u16, cursor: Cursor) {
        if let Some(known) = self.0.get_mut(usize::from(shard)) {
            *known = cursor;
        }
    }

    /// The cursors in the order of their shards.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Cursor)> + '_ {
        (0..).zip(self.0.iter().copied())
    }

    /// Reads the text of a cursor of a feed with `shards`.
    ///
    /// # Errors
    /// [`BadCursors`], whose text is meant for the client.
    pub fn parse(text: &str, shards: FeedShards) -> Result<Self, BadCursors> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursors::Malformed)?;
        let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(BadCursors::Malformed)?;
        if *checksum != checksum_of(bytes) {
            return Err(BadCursors::Malformed);
        }
        let (version, mut rest) = bytes.split_first().ok_or(BadCursors::Malformed)?;
        if *version != VERSION {
            return Err(if *version > VERSION { BadCursors::Later } else { BadCursors::Malformed });
        }
        let mut cursors = Vec::with_capacity(usize::from(shards.get()));
        while !rest.is_empty() {
            let position = number(&mut rest)?;
            let index = if position % 2 == 1 { number(&mut rest)? } else { 0 };
            cursors.push(Cursor { position: position / 2, index });
        }
        if cursors.len() != usize::from(shards.get()) {
            return Err(BadCursors::OtherFeed { of_cursor: cursors.len(), of_feed: shards.get() });
        }
        Ok(Self(cursors))
    }
}

fn number(rest: &mut &[u8]) -> Result<u64, BadCursors> {
    decode_varint(rest).map_err(|_| BadCursors::Malformed)
}

fn checksum_of(bytes: &[u8]) -> [u8; CHECKSUM] {
    let [.., high, low] = xxh64(bytes, 0).to_be_bytes();
    [high, low]
}

impl fmt::Display for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        for Cursor { position, index } in &self.0 {
            encode_varint(position * 2 + u64::from(*index > 0), &mut bytes);
            if *index > 0 {
                encode_varint(*index, &mut bytes);
            }
        }
        bytes.extend(checksum_of(&bytes));
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shard::ShardLayout;

    fn shards(count: usize) -> FeedShards {
        FeedShards::new(u16::try_from(count).unwrap()).unwrap()
    }

    fn cursors() -> impl Strategy<Value = Vec<Cursor>> {
        let number = || prop_oneof![3 => 0..1_000_u64, 1 => 0..=u64::MAX / 2];
        let cursor = (number(), prop_oneof![Just(0), number()]);
        let cursor = cursor.prop_map(|(position, index)| Cursor { position, index });
        prop::collection::vec(cursor, 1..40)
    }

    proptest! {
        #[test]
        fn cursors_are_read_as_they_are_written(cursors in cursors()) {
            let shards = shards(cursors.len());
            let written = Cursors(cursors);
            let text = written.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(Cursors::parse(&text, shards), Ok(written));
        }

        #[test]
        fn a_changed_text_is_nearly_never_a_cursor_and_never_a_panic(
            cursors in cursors(),
            at in any::<prop::sample::Index>(),
            text in "[A-Za-z0-9_-]{0,60}",
        ) {
            let shards = shards(cursors.len());
            let _ = Cursors::parse(&text, shards);
            let whole = Cursors(cursors).to_string();
            let cut = &whole[..at.index(whole.len())];
            // A checksum of two bytes cannot tell all.
            if let Ok(read) = Cursors::parse(cut, shards) {
                prop_assert_eq!(read.0.len(), usize::from(shards.get()));
            }
        }
    }

    #[test]
    fn texts_that_are_no_cursors() {
        let three = Cursors::new(shards(3), |shard| Cursor { position: u64::from(shard) * 100, index: 0 });
        let text = three.to_string();
        assert_eq!(text.len(), 11, "{text}");
        assert_eq!(Cursors::parse(&text, shards(3)), Ok(three.clone()));
        for (bad, expected) in [
            ("", BadCursors::Malformed),
            ("0", BadCursors::Malformed),
            ("17", BadCursors::Malformed),
            ("17.3", BadCursors::Malformed),
            ("latest", BadCursors::Malformed),
            ("not base64!", BadCursors::Malformed),
            (&text[1..], BadCursors::Malformed),
            (&text[..text.len() - 1], BadCursors::Malformed),
            (&format!("{text}="), BadCursors::Malformed),
            (&format!(" {text}"), BadCursors::Malformed),
            (&signed(&[0, 2]), BadCursors::Malformed),
            (&signed(&[2, 2, 4]), BadCursors::Later),
            (&signed(&[1, 0xff]), BadCursors::Malformed),
            // An index is missing.
            (&signed(&[1, 2, 2, 3]), BadCursors::Malformed),
            (&signed(&[1]), BadCursors::OtherFeed { of_cursor: 0, of_feed: 3 }),
            (&signed(&[1, 2, 2]), BadCursors::OtherFeed { of_cursor: 2, of_feed: 3 }),
        ] {
            assert_eq!(Cursors::parse(bad, shards(3)), Err(expected), "{bad:?}");
        }
        let other = BadCursors::OtherFeed { of_cursor: 3, of_feed: 4 };
        assert_eq!(Cursors::parse(&text, shards(4)), Err(other));
    }

    fn signed(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([bytes, &checksum_of(bytes)].concat())
    }

    #[test]
    fn the_largest_cursor_is_short_enough_for_an_address() {
        let shards = FeedShards::new(ShardLayout::MAX).unwrap();
        let cursors = Cursors::new(shards, |_| Cursor { position: 1_000_000_000, index: 0 });
        assert!(cursors.to_string().len() < 7_000);
    }
}
