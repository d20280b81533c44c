//! Removing old rows.

use crate::mysql::Pool;

/// Removes rows of `shard` that were written before `before` (in milliseconds since 1970), at most `count`, from the oldest
/// on. Returns how many.
///
/// # Errors
/// The database's.
pub async fn prune(pool: &Pool, shard: u16, before: i64, count: u32) -> sqlx::Result<u64> {
    let oldest: Vec<(u64, i64)> = sqlx::query_as(
        "SELECT position, written_at FROM feed_change WHERE shard = ? ORDER BY position LIMIT ?",
    )
    .bind(shard)
    .bind(count)
    .fetch_all(pool)
    .await?;
    let Some(last) = last_to_remove(&oldest, before) else { return Ok(0) };
    let removed = sqlx::query("DELETE FROM feed_change WHERE shard = ? AND position <= ?")
        .bind(shard)
        .bind(last)
        .execute(pool)
        .await?;
    Ok(removed.rows_affected())
}

/// A row stays if one before it stays: clocks of processes differ.
fn last_to_remove(oldest: &[(u64, i64)], before: i64) -> Option<u64> {
    oldest.iter().take_while(|(_, written_at)| *written_at < before).last().map(|(position, _)| *position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_rows_go_in_their_order() {
        assert_eq!(last_to_remove(&[], 9), None);
        assert_eq!(last_to_remove(&[(5, 1), (6, 1)], 9), Some(6));
        assert_eq!(last_to_remove(&[(5, 1), (6, 9), (7, 1)], 9), Some(5));
        assert_eq!(last_to_remove(&[(5, 9), (6, 1)], 9), None);
    }
}
