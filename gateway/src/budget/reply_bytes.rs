//! Bounds the bytes of replies that wait for clients to read them: per connection, per user, and in the whole process.
//!
//! The bytes of a large reply are reserved before it is made, at its largest possible size, and are released when the
//! frame is freed, which is when it was written to the socket. A request whose bytes are not available waits; its client
//! has to read earlier replies first.
//!
//! Half of the bytes of the process are for the first waiting reply of each user, so that a few dozen users who read nothing
//! and together could hold all bytes leave room for all others.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::budgets::Budgets;
use super::user::Payer;
use crate::config::REPLY_BYTES_MAX;

/// Contents of one page in JSON.
const CONTENTS_MAX: usize = 512 * 1024;
/// The largest content in JSON: 4,096 bytes, each of which may take six.
const CONTENT_MAX: usize = 6 * 4_096;
/// The largest entry of a page without its content.
const ENTRY_MAX: usize = 1_024;
/// The largest profile in JSON: `meta` of 2,048 bytes, an id and a nickname of 64 characters each, numbers and field names.
const PROFILE_MAX: usize = 3 * 1_024;
/// Smaller frames are not counted: a connection has few of them, whose number is limited.
const COUNTED_MIN: usize = 4 * 1_024;

/// The size that a page of `limit` entries may have.
pub(crate) fn page_bytes(limit: u16) -> usize {
    let limit = usize::from(limit);
    ((limit * CONTENT_MAX).min(CONTENTS_MAX) + limit * ENTRY_MAX).min(REPLY_BYTES_MAX)
}

/// The size that a list of `count` profiles may have.
pub(crate) fn profiles_bytes(count: usize) -> usize {
    (count * PROFILE_MAX).min(REPLY_BYTES_MAX)
}

/// Reserved bytes. They are released when this is dropped, or the frame that it was attached to.
#[derive(Debug, Default)]
pub(crate) struct ReplyBytes {
    permits: [Option<OwnedSemaphorePermit>; 4],
}

impl ReplyBytes {
    /// Waits until `bytes` are available: to the connection (`None` for an HTTP call), to the user, and in the process.
    pub(crate) async fn reserve(
        budgets: &Budgets,
        payer: &Payer,
        connection: Option<&Arc<Semaphore>>,
        bytes: usize,
    ) -> Self {
        let user = match payer {
            Payer::User(budget) => Some(&budget.reply_bytes),
            Payer::Operator => None,
        };
        // Two replies of a user that begin at the same moment may both count as its first one.
        let is_further = user.is_some_and(|bytes| bytes.available_permits() < budgets.user_reply_bytes_max());
        let further = is_further.then_some(&budgets.further_reply_bytes);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut reserved = Self::default();
        // From the narrowest on: a connection that reads nothing waits for its own bytes only.
        let all = [connection, user, further, Some(&budgets.reply_bytes)];
        for (slot, semaphore) in all.into_iter().enumerate() {
            let Some(semaphore) = semaphore else { continue };
            // The semaphores are never closed.
            reserved.permits[slot] = Arc::clone(semaphore).acquire_many_owned(permits).await.ok();
        }
        reserved
    }

    /// The frame, with as many of the bytes as it has. The others are released.
    pub(crate) fn attach(mut self, frame: Utf8Bytes) -> Utf8Bytes {
        if frame.len() < COUNTED_MIN {
            return frame;
        }
        for permit in self.permits.iter_mut().flatten() {
            drop(permit.split(permit.num_permits().saturating_sub(frame.len())));
        }
        let counted = Bytes::from_owner(CountedFrame { frame, _bytes: self });
        // It was UTF-8 before.
        Utf8Bytes::try_from(counted).unwrap_or_default()
    }
}

struct CountedFrame {
    frame: Utf8Bytes,
    _bytes: ReplyBytes,
}

impl AsRef<[u8]> for CountedFrame {
    fn as_ref(&self) -> &[u8] {
        self.frame.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::ids::UserId;
    use tokio::time::timeout;

    use super::super::settings::BudgetSettings;
    use super::*;

    fn budgets() -> Budgets {
        Budgets::new(BudgetSettings {
            user_cost: None,
            user_reads_max: 1,
            user_reply_bytes_max: 30_000,
            reply_bytes_max: 50_000,
        })
    }

    async fn reserves(
        budgets: &Budgets,
        user: &str,
        connection: Option<&Arc<Semaphore>>,
    ) -> Option<ReplyBytes> {
        let payer = Payer::User(budgets.of(&UserId::parse(user).unwrap()));
        timeout(Duration::from_secs(1), ReplyBytes::reserve(budgets, &payer, connection, 20_000)).await.ok()
    }

    fn frame(bytes: usize) -> Utf8Bytes {
        "x".repeat(bytes).into()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_bounded_per_connection_user_and_process() {
        let budgets = budgets();
        let (first, second) = (Arc::new(Semaphore::new(25_000)), Arc::new(Semaphore::new(25_000)));
        let alices = reserves(&budgets, "alice", Some(&first)).await.unwrap().attach(frame(18_000));
        assert!(reserves(&budgets, "alice", Some(&first)).await.is_none(), "the connection has 7,000 left");
        assert!(reserves(&budgets, "alice", Some(&second)).await.is_none(), "the user has 12,000 left");
        let bobs = reserves(&budgets, "bob", None).await.unwrap().attach(frame(15_000));
        assert!(reserves(&budgets, "carol", None).await.is_none(), "the process has 17,000 left");
        let clone = alices.clone();
        drop((alices, bobs));
        assert!(
            reserves(&budgets, "alice", Some(&first)).await.is_none(),
            "a copy of the frame is not written yet"
        );
        drop(clone);
        let small = reserves(&budgets, "alice", Some(&first)).await.unwrap().attach(frame(100));
        assert_eq!((small.len(), first.available_permits()), (100, 25_000), "small frames are not counted");
        assert_eq!(budgets.reply_bytes.available_permits(), 50_000);
    }

    #[tokio::test(start_paused = true)]
    async fn users_who_read_nothing_leave_room_for_the_first_reply_of_others() {
        let budgets = Budgets::new(BudgetSettings {
            user_cost: None,
            user_reads_max: 1,
            user_reply_bytes_max: 4 * REPLY_BYTES_MAX,
            reply_bytes_max: 16 * REPLY_BYTES_MAX,
        });
        let reserve = async |user: &str| {
            let payer = Payer::User(budgets.of(&UserId::parse(user).unwrap()));
            let reserved = ReplyBytes::reserve(&budgets, &payer, None, REPLY_BYTES_MAX);
            timeout(Duration::from_secs(1), reserved).await.ok()
        };
        let mut held = Vec::new();
        for greedy in ["a", "b", "c", "d"] {
            for _ in 0..4 {
                held.extend(reserve(greedy).await);
            }
        }
        assert_eq!(held.len(), 4 + 8, "a first reply each, and half of the process's bytes for further ones");
        for other in ["e", "f", "g", "h"] {
            assert!(reserve(other).await.is_some(), "{other}");
        }
        held.push(reserve("e").await.unwrap());
        assert!(reserve("e").await.is_none());
        held.clear();
        assert!(reserve("e").await.is_some());
        assert_eq!(budgets.further_reply_bytes.available_permits(), 8 * REPLY_BYTES_MAX);
    }

    #[test]
    fn the_largest_page_fits() {
        assert_eq!(page_bytes(500), REPLY_BYTES_MAX.min(512 * 1024 + 500 * 1_024));
        assert_eq!(page_bytes(1), 6 * 4_096 + 1_024);
        assert!((1..=500).all(|limit| page_bytes(limit) <= REPLY_BYTES_MAX));
    }
}
