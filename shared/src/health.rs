//! Readiness of a process, by named checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

/// All checks of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    failing: Arc<Mutex<BTreeMap<String, String>>>,
    /// The names of all checks so far, those that are removed included.
    names: Arc<Mutex<BTreeSet<String>>>,
}

/// The reason of a check without a result.
const STARTING: &str = "starting";

impl Health {
    /// A process without checks: it is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that fails with "starting" until its first result.
    #[must_use]
    pub fn check(&self, name: impl Into<String>) -> Check {
        let name = name.into();
        self.names.lock().insert(name.clone());
        self.failing.lock().insert(name.clone(), STARTING.to_owned());
        Check { health: self.clone(), name }
    }

    /// The failing checks with their reasons; empty if the process is ready.
    #[must_use]
    pub fn failing(&self) -> Vec<String> {
        self.failing.lock().iter().map(|(name, why)| format!("{name}: {why}")).collect()
    }

    /// Sets the gauges of readiness: of the process, and of each check.
    pub fn report(&self) {
        let failing: BTreeSet<String> = self.failing.lock().keys().cloned().collect();
        let value = |is_set| if is_set { 1.0 } else { 0.0 };
        metrics::gauge!(crate::metrics::PROCESS_READY).set(value(failing.is_empty()));
        for name in &*self.names.lock() {
            let gauge = metrics::gauge!(crate::metrics::PROCESS_CHECK_FAILING, "check" => name.clone());
            gauge.set(value(failing.contains(name)));
        }
    }

    /// Makes the process not ready for good, because it stops.
    pub fn drain(&self) {
        self.failing.lock().insert("draining".to_owned(), "the process is stopping".to_owned());
    }
}

/// One named check. It is removed when it is dropped.
#[derive(Debug)]
pub struct Check {
    health: Health,
    name: String,
}

impl Check {
    /// Records that the check passes.
    pub fn pass(&self) {
        match self.health.failing.lock().remove(&self.name) {
            None => {}
            Some(before) if before == STARTING => {
                tracing::debug!(check.name = %self.name, "Readiness check {} passes", self.name);
            }
            Some(_) => tracing::info!(check.name = %self.name, "Readiness check {} passes again", self.name),
        }
    }

    /// Records that the check fails, and logs a new reason. `why` does not contain the name of the check.
    pub fn fail(&self, why: impl Into<String>) {
        let why = why.into();
        let mut failing = self.health.failing.lock();
        if failing.get(&self.name).is_none_or(|before| *before != why) {
            tracing::warn!(
                check.name = %self.name, check.reason = %why,
                "Readiness check {} fails: {why}", self.name
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
