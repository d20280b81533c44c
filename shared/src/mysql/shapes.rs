//! Statements for any number of rows out of few fixed texts.

use std::ops::Range;

/// Row counts that have a prepared statement, largest first. Each statement is a round trip, so the few rows of a small
/// batch take one, up to 256 rows at most three, and more rows one more for each 256.
const SIZES: [usize; 24] =
    [256, 192, 128, 96, 64, 48, 32, 24, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];

/// The texts of one statement for all [`SIZES`].
#[derive(Debug)]
pub(super) struct Shapes {
    texts: [String; SIZES.len()],
}

impl Shapes {
    /// `before`, then `row` n times joined by `between`, then `after`.
    pub(super) fn new(before: &str, row: &str, between: &str, after: &str) -> Self {
        let texts = SIZES.map(|n| format!("{before}{}{after}", vec![row; n].join(between)));
        Self { texts }
    }

    /// Cuts `rows` rows into ranges that each have a text exactly: for statements where each row counts once.
    pub(super) fn exact(&self, rows: usize) -> impl Iterator<Item = (Range<usize>, &str)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let left = rows - start;
            let at = SIZES.iter().position(|size| *size <= left)?;
            let range = start..start + SIZES[at];
            start = range.end;
            Some((range, self.texts[at].as_str()))
        })
    }

    /// Cuts `rows` rows into ranges with a text of at least their length and that length: for `IN` lists, whose last
    /// value may be repeated.
    pub(super) fn padded(&self, rows: usize) -> impl Iterator<Item = (Range<usize>, usize, &str)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let left = (rows - start).min(SIZES[0]);
            let at = SIZES.iter().rposition(|size| *size >= left).filter(|_| left > 0)?;
            let range = start..start + left;
            start = range.end;
            Some((range, SIZES[at], self.texts[at].as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_repeat_the_row() {
        let shapes = Shapes::new("IN (", "?", ",", ")");
        let ranges: Vec<_> = shapes.exact(3).collect();
        assert_eq!(ranges, [(0..3, "IN (?,?,?)")]);
        let padded: Vec<_> = shapes.padded(17).collect();
        assert_eq!((padded.len(), &padded[0].0, padded[0].1), (1, &(0..17), 24));
        assert_eq!(shapes.padded(0).count() + shapes.exact(0).count(), 0);
    }

    proptest! {
        #[test]
        fn every_row_is_in_exactly_one_range(rows in 0usize..2000) {
            let shapes = Shapes::new("", "?", ",", "");
            let marks = |text: &str| text.matches('?').count();
            let mut end = 0;
            for (range, text) in shapes.exact(rows) {
                prop_assert_eq!(range.start, end);
                prop_assert_eq!(marks(text), range.len());
                end = range.end;
            }
            prop_assert_eq!(end, rows);
            prop_assert!(shapes.exact(rows).count() <= 3 + rows / 256);
            end = 0;
            for (range, length, text) in shapes.padded(rows) {
                prop_assert_eq!(range.start, end);
                prop_assert!(marks(text) == length && length >= range.len());
                end = range.end;
            }
            prop_assert_eq!(end, rows);
        }
    }
}
