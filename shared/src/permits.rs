//! A semaphore whose number of permits changes while it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::shutdown::Shutdown;

/// Permits, and how many there are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Permits {
    semaphore: Arc<Semaphore>,
    size: Arc<AtomicUsize>,
}

impl Permits {
    /// `size` permits.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(size)), size: Arc::new(AtomicUsize::new(size)) }
    }

    /// The semaphore. To acquire one costs the same as without a size that changes.
    #[must_use]
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }

    /// The number of permits, those in use included. After a reduction more may still be in use.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// The number of permits in use; after a reduction it may be larger than [`size`](Self::size).
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.size().saturating_sub(self.semaphore.available_permits())
    }

    /// Changes the number of permits; see [`resize`].
    pub fn resize(&self, size: usize, tasks: &Shutdown) {
        let before = self.size.swap(size, Ordering::Relaxed);
        resize(&self.semaphore, before, size, tasks);
    }
}

/// Changes the number of permits of `semaphore`, those in use included, from `before` to `after`.
///
/// If more than `after` are in use, nobody gets a permit until as many are released: a task of `tasks` waits for them, and it
/// waits in front of all who come later.
pub fn resize(semaphore: &Arc<Semaphore>, before: usize, after: usize, tasks: &Shutdown) {
    if after >= before {
        semaphore.add_permits(after - before);
        return;
    }
    let excess = before - after;
    let excess = excess - semaphore.forget_permits(excess);
    if excess > 0 {
        let (semaphore, stop) = (Arc::clone(semaphore), tasks.clone());
        tasks.spawn(async move { stop.run_until_stopped(retire(&semaphore, excess)).await });
    }
}

/// Waits for `excess` permits, which then exist no more.
async fn retire(semaphore: &Semaphore, mut excess: usize) {
    while excess > 0 {
        let some = u32::try_from(excess).unwrap_or(u32::MAX);
        // Only a semaphore that is closed has none.
        let Ok(permits) = semaphore.acquire_many(some).await else { return };
        permits.forget();
        excess -= usize::try_from(some).unwrap_or(excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn permits_in_use_are_retired_when_they_are_released() {
        let (permits, tasks) = (Permits::new(4), Shutdown::new());
        let acquire = || Arc::clone(permits.semaphore()).try_acquire_owned();
        let mut held: Vec<_> = (0..3).map(|_| acquire().unwrap()).collect();
        permits.resize(1, &tasks);
        tokio::task::yield_now().await;
        assert_eq!(permits.size(), 1);
        assert!(acquire().is_err());
        held.truncate(1);
        tokio::task::yield_now().await;
        assert!(acquire().is_err(), "one is in use, and there is one");
        held.clear();
        let only = acquire().unwrap();
        assert!(acquire().is_err());
        permits.resize(3, &tasks);
        let further = (acquire().unwrap(), acquire().unwrap());
        assert!(acquire().is_err());
        drop((only, further));
        assert_eq!((permits.semaphore().available_permits(), permits.in_use()), (3, 0));
    }

    #[tokio::test]
    async fn an_increase_while_permits_are_retired_makes_up_for_them() {
        let (permits, tasks) = (Permits::new(2), Shutdown::new());
        let acquire = || Arc::clone(permits.semaphore()).try_acquire_owned();
        let _held = (acquire().unwrap(), acquire().unwrap());
        permits.resize(1, &tasks);
        tokio::task::yield_now().await;
        permits.resize(3, &tasks);
        tokio::task::yield_now().await;
        let _third = acquire().unwrap();
        assert!(acquire().is_err());
    }
}
