//! Multi-row statements in a fixed set of sizes, so that prepared statements are reused.

use std::ops::Range;

use ahash::AHashMap;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

use super::Pool;
use crate::conversation::Conversation;

/// Sizes for statements in which a row may be repeated, and for rare ones; the largest first. n rows take at most
/// log2(n) + n / 256 statements.
const COARSE: &[usize] = &[256, 128, 64, 32, 16, 8, 4, 2, 1];
/// Sizes for the statements of every commit. Each statement is a round trip: up to 16 rows take one, up to 256 rows at
/// most three, and more rows one more for each 256.
const FINE: &[usize] =
    &[256, 192, 128, 96, 64, 48, 32, 24, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];

/// One statement in several sizes.
#[derive(Debug)]
pub(super) struct MultiRow {
    sizes: &'static [usize],
    texts: Vec<String>,
}

impl MultiRow {
    /// A statement of `before`, then `row` n times joined by `between`, then `after`.
    pub(super) fn new(before: &str, row: &str, between: &str, after: &str) -> Self {
        Self::of_sizes(COARSE, before, row, between, after)
    }

    /// The same for a statement of every commit, in which each row is given once.
    pub(super) fn fine(before: &str, row: &str, between: &str, after: &str) -> Self {
        Self::of_sizes(FINE, before, row, between, after)
    }

    fn of_sizes(sizes: &'static [usize], before: &str, row: &str, between: &str, after: &str) -> Self {
        let text = |n: &usize| format!("{before}{}{after}", vec![row; *n].join(between));
        Self { sizes, texts: sizes.iter().map(text).collect() }
    }

    /// The rows that the statement returns for `wanted`. `first`, if given, is bound before the values of each statement; the
    /// last value is repeated to fill a statement.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn select<const N: usize>(
        &self,
        connection: &mut MySqlConnection,
        first: Option<&str>,
        wanted: &[[&str; N]],
    ) -> sqlx::Result<Vec<MySqlRow>> {
        let mut rows = Vec::new();
        for (range, length, text) in self.padded(wanted.len()) {
            let asked = &wanted[range];
            let mut query = sqlx::query(AssertSqlSafe(text));
            if let Some(first) = first {
                query = query.bind(first);
            }
            for values in asked.iter().chain(asked.last().into_iter().cycle()).take(length) {
                for value in values {
                    query = query.bind(*value);
                }
            }
            rows.extend(query.fetch_all(&mut *connection).await?);
        }
        Ok(rows)
    }

    /// The same on a connection of `pool`.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn select_from<const N: usize>(
        &self,
        pool: &Pool,
        first: Option<&str>,
        wanted: &[[&str; N]],
    ) -> sqlx::Result<Vec<MySqlRow>> {
        let mut connection = pool.acquire().await?;
        let rows = self.select(&mut connection, first, wanted).await;
        connection.finish(rows)
    }

    /// The same for conversations, whose keys are in the first column. `read` converts each row.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn by_conversation<T>(
        &self,
        pool: &Pool,
        first: Option<&str>,
        conversations: &[&Conversation],
        read: impl Fn(&MySqlRow) -> sqlx::Result<T>,
    ) -> sqlx::Result<AHashMap<Conversation, T>> {
        let keys: Vec<[&str; 1]> = conversations.iter().map(|conversation| [conversation.key()]).collect();
        let by_key: AHashMap<&str, &Conversation> = conversations.iter().map(|c| (c.key(), *c)).collect();
        let mut found = AHashMap::with_capacity(conversations.len());
        for row in self.select_from(pool, first, &keys).await? {
            if let Some(conversation) = by_key.get(row.try_get::<&str, _>(0)?) {
                found.insert((*conversation).clone(), read(&row)?);
            }
        }
        Ok(found)
    }

    /// Splits `rows` rows into ranges that each fill a statement exactly: for statements in which each row is given once.
    pub(super) fn exact(&self, rows: usize) -> impl Iterator<Item = (Range<usize>, &str)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let left = rows - start;
            let at = self.sizes.iter().position(|size| *size <= left)?;
            let range = start..start + self.sizes[at];
            start = range.end;
            Some((range, self.texts[at].as_str()))
        })
    }

    /// Splits `rows` rows into ranges, each with the size and text of a statement of at least its length: for `IN` lists,
    /// whose last value may be repeated.
    pub(super) fn padded(&self, rows: usize) -> impl Iterator<Item = (Range<usize>, usize, &str)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let left = (rows - start).min(self.sizes[0]);
            let at = self.sizes.iter().rposition(|size| *size >= left).filter(|_| left > 0)?;
            let range = start..start + left;
            start = range.end;
            Some((range, self.sizes[at], self.texts[at].as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statements_repeat_the_row() {
        let coarse = MultiRow::new("IN (", "?", ",", ")");
        let ranges: Vec<_> = coarse.exact(3).collect();
        assert_eq!(ranges, [(0..2, "IN (?,?)"), (2..3, "IN (?)")]);
        let padded: Vec<_> = coarse.padded(3).collect();
        assert_eq!(padded, [(0..3, 4, "IN (?,?,?,?)")]);
        let fine = MultiRow::fine("IN (", "?", ",", ")");
        assert_eq!(
            fine.exact(3).map(|(range, text)| (range.len(), text)).collect::<Vec<_>>(),
            [(3, "IN (?,?,?)")]
        );
        assert_eq!(coarse.padded(0).count() + coarse.exact(0).count(), 0);
    }

    proptest! {
        #[test]
        fn every_row_is_in_exactly_one_range(rows in 0usize..2000, fine in any::<bool>()) {
            let of = if fine { MultiRow::fine } else { MultiRow::new };
            let statement = of("", "?", ",", "");
            let placeholders = |text: &str| text.matches('?').count();
            let mut end = 0;
            for (range, text) in statement.exact(rows) {
                prop_assert_eq!(range.start, end);
                prop_assert_eq!(placeholders(text), range.len());
                end = range.end;
            }
            prop_assert_eq!(end, rows);
            prop_assert!(!fine || statement.exact(rows).count() <= 3 + rows / 256);
            end = 0;
            for (range, length, text) in statement.padded(rows) {
                prop_assert_eq!(range.start, end);
                prop_assert!(placeholders(text) == length && length >= range.len());
                end = range.end;
            }
            prop_assert_eq!(end, rows);
        }
    }
}
