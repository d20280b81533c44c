//! Whether a process can serve, by named checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// All checks of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    failing: Arc<Mutex<BTreeMap<String, String>>>,
}

/// The reason of a check that has neither passed nor failed yet.
const STARTING: &str = "starting";

impl Health {
    /// No checks: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that fails with "starting" until it is told otherwise.
    #[must_use]
    pub fn check(&self, name: impl Into<String>) -> Check {
        let name = name.into();
        self.failing.lock().insert(name.clone(), STARTING.to_owned());
        Check { health: self.clone(), name }
    }

    /// Why the process is not ready, one sentence per failing check; empty if it is.
    #[must_use]
    pub fn failing(&self) -> Vec<String> {
        self.failing.lock().iter().map(|(name, why)| format!("{name}: {why}")).collect()
    }

    /// Not ready from now on: the process is going away.
    pub fn drain(&self) {
        self.failing.lock().insert("draining".to_owned(), "the process is stopping".to_owned());
    }
}

/// One named check; passes again when dropped.
#[derive(Debug)]
pub struct Check {
    health: Health,
    name: String,
}

impl Check {
    /// All is well.
    pub fn pass(&self) {
        match self.health.failing.lock().remove(&self.name) {
            None => {}
            Some(before) if before == STARTING => {
                tracing::debug!(check = %self.name, "health check passes for the first time");
            }
            Some(before) => tracing::info!(check = %self.name, failed = %before, "health check passes again"),
        }
    }

    /// Something is not: `why` without the check's name.
    pub fn fail(&self, why: impl Into<String>) {
        let why = why.into();
        let mut failing = self.health.failing.lock();
        if failing.get(&self.name).is_none_or(|before| *before != why) {
            tracing::warn!(
                check = %self.name, %why,
                "health check fails: /readyz says so until it passes again"
            );
            failing.insert(self.name.clone(), why);
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.health.failing.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_check_passes_and_nothing_drains() {
        let health = Health::new();
        let (mysql, amqp) = (health.check("mysql"), health.check("amqp"));
        assert_eq!(health.failing(), ["amqp: starting", "mysql: starting"]);
        mysql.pass();
        amqp.fail("connection refused");
        assert_eq!(health.failing(), ["amqp: connection refused"]);
        drop(amqp);
        assert!(health.failing().is_empty());
        health.drain();
        assert_eq!(health.failing(), ["draining: the process is stopping"]);
    }
}
