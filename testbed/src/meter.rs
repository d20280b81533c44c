//! Processor time, memory and metrics of processes.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::stack::{Servers, System};

/// Processor time used so far, by process.
pub type Used = BTreeMap<String, Duration>;

/// Name of this process. In a comparison it contains the baselines' servers too.
pub const OWN: &str = "load generator";
/// Names of the system's own processes.
pub const SERVICES: [&str; 2] = ["gateways", "workers"];

/// The processor time of `system`, its servers and this process so far.
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
        used.extend(servers_used(servers));
    }
    used.insert(OWN.to_owned(), own());
    used
}

/// The processor time of `servers` and this process so far.
#[must_use]
pub fn servers_used(servers: &Servers) -> Used {
    let processes = [servers.mysql.process(), servers.redis.process(), servers.rabbit.process()];
    let processes = processes.into_iter().flatten();
    let mut used: Used = processes.map(|process| (process.name().to_owned(), process.cpu())).collect();
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

/// The processes of `system`, its servers and this one: kind and process id.
pub fn processes(system: &mut System) -> Vec<(String, u32)> {
    let mut all = vec![(OWN.to_owned(), std::process::id())];
    for service in system.services() {
        let kind = service.name().split(' ').next().unwrap_or_default().to_owned() + "s";
        all.extend(service.process().map(|process| (kind, process.id())));
    }
    if let Some(servers) = system.servers() {
        let processes = [servers.mysql.process(), servers.redis.process(), servers.rabbit.process()];
        all.extend(processes.into_iter().flatten().map(|process| (process.name().to_owned(), process.id())));
    }
    all
}

/// User and system time of one process, children not counted; `None` if it has ended.
#[must_use]
pub fn cpu_of(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may contain blanks. Fields 14 and 15 of proc(5), in ticks of 10 ms.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

/// Resident memory of one process in bytes; `None` if it has ended.
#[must_use]
pub fn resident_of(process: u32) -> Option<u64> {
    const PAGE_BYTES: u64 = 4096;
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    Some(pages.split_whitespace().nth(1)?.parse::<u64>().ok()? * PAGE_BYTES)
}

/// Seconds of processor time per 1,000 messages between two moments.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn per_1000(before: &Used, after: &Used, messages: u64) -> BTreeMap<String, f64> {
    let cost = |(name, used): (&String, &Duration)| {
        let used = used.saturating_sub(before.get(name).copied().unwrap_or_default());
        (name.clone(), used.as_secs_f64() * 1000.0 / messages.max(1) as f64)
    };
    after.iter().map(cost).collect()
}

/// The sum of a metric of the process at `url`, its address for metrics, over its labels; `name` may end with one label.
///
/// # Errors
/// If it does not answer.
pub async fn metric(url: &str, name: &str) -> anyhow::Result<f64> {
    let text = reqwest::get(format!("{url}/metrics")).await?.error_for_status()?.text().await?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).flatten()
    });
    Ok(values.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_the_processor_time_between_two_moments() {
        let at = |seconds| Used::from([("MySQL".to_owned(), Duration::from_secs(seconds))]);
        assert_eq!(per_1000(&at(3), &at(5), 4_000)["MySQL"], 0.5);
        // A process that started in between, and no message.
        assert_eq!(per_1000(&Used::new(), &at(1), 0)["MySQL"], 1_000.0);
    }
}
