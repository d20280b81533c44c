//! The configuration that applies at the moment, and the parts that follow its changes.
//!
//! The path of a message never looks here: a part that is asked for each message has its own copy of a limit (an atomic number,
//! the size of a semaphore), which is changed when the configuration is.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::shutdown::Shutdown;

type Follower<C> = Box<dyn Fn(&C, &Shutdown) + Send + Sync>;

/// The configuration of a process. What cannot change while it runs has the value of the start.
pub struct Live<C> {
    now: RwLock<Arc<C>>,
    followers: Mutex<Vec<Follower<C>>>,
    /// For what the followers wait for. Nothing waits for these tasks: they end with the process.
    tasks: Shutdown,
}

impl<C> fmt::Debug for Live<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl<C: 'static> Live<C> {
    /// Nothing has changed since the start with `config`.
    #[must_use]
    pub fn new(config: Arc<C>) -> Self {
        Self { now: RwLock::new(config), followers: Mutex::default(), tasks: Shutdown::new() }
    }

    /// The present configuration.
    #[must_use]
    pub fn now(&self) -> Arc<C> {
        Arc::clone(&self.now.read())
    }

    /// Calls `apply` for `part` now, since the configuration may have changed since `part` was built, and after each change for
    /// as long as `part` exists.
    pub fn follow<P>(&self, part: &Arc<P>, apply: fn(&P, &C, &Shutdown))
    where
        P: Send + Sync + 'static,
    {
        let mut followers = self.followers.lock();
        apply(part, &self.now(), &self.tasks);
        let part: Weak<P> = Arc::downgrade(part);
        followers.push(Box::new(move |config, tasks| {
            if let Some(part) = part.upgrade() {
                apply(&part, config, tasks);
            }
        }));
    }

    /// Applies `config` from now on.
    pub fn change(&self, config: Arc<C>) {
        let followers = self.followers.lock();
        *self.now.write() = Arc::clone(&config);
        for follower in &*followers {
            follower(&config, &self.tasks);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_part_gets_the_present_configuration_and_each_change() {
        let live = Live::new(Arc::new(1));
        live.change(Arc::new(2));
        let part = Arc::new(AtomicU32::new(1));
        live.follow(&part, |part, config, _| part.store(*config, Ordering::Relaxed));
        assert_eq!(part.load(Ordering::Relaxed), 2, "it was built with what is outdated");
        live.change(Arc::new(3));
        assert_eq!((part.load(Ordering::Relaxed), *live.now()), (3, 3));
        drop(part);
        live.change(Arc::new(4));
    }
}
