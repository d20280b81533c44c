//! Processor time by process.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::stack::System;

/// Processor time used so far, by process.
pub type Used = BTreeMap<String, Duration>;

/// Name of this process. In a comparison it holds the baselines' servers too.
pub const OWN: &str = "load generator";
/// Names of the system's own processes.
pub const SERVICES: [&str; 2] = ["gateways", "workers"];

/// What `system`, its servers and this process have used so far.
#[must_use]
pub fn used(system: &mut System) -> Used {
    let mut used = Used::new();
    for service in system.services() {
        let kind = service.name().split(' ').next().unwrap_or_default().to_owned() + "s";
        if let Some(process) = service.process() {
            *used.entry(kind).or_default() += process.cpu();
        }
    }
    if let Some(servers) = system.servers() {
        let processes = [servers.mysql.process(), servers.redis.process(), servers.rabbit.process()];
        for process in processes.into_iter().flatten() {
            used.insert(process.name().to_owned(), process.cpu());
        }
    }
    used.insert(OWN.to_owned(), own());
    used
}

fn own() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// Seconds per 1,000 messages between two moments.
#[must_use]
#[allow(clippy::cast_precision_loss)] // far below 2^52
pub fn per_1000(before: &Used, after: &Used, messages: u64) -> BTreeMap<String, f64> {
    let cost = |(name, used): (&String, &Duration)| {
        let used = used.saturating_sub(before.get(name).copied().unwrap_or_default());
        (name.clone(), used.as_secs_f64() * 1000.0 / messages.max(1) as f64)
    };
    after.iter().map(cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_what_was_used_between_two_moments() {
        let at = |seconds| Used::from([("MySQL".to_owned(), Duration::from_secs(seconds))]);
        assert_eq!(per_1000(&at(3), &at(5), 4_000)["MySQL"], 0.5);
        // A process that was not there before, and no message at all.
        assert_eq!(per_1000(&Used::new(), &at(1), 0)["MySQL"], 1_000.0);
    }
}
