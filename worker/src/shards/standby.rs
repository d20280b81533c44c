//! What a worker without a shard reports. Pure.

use std::collections::BTreeMap;
use std::fmt;

use shared::redis::liveness_registry::LiveWorkers;
use shared::shard::{ShardId, ShardLayout};

use super::assignment::owners;

/// The owners of all shards, as reported last by a worker that has none.
#[derive(Debug, Default)]
pub(super) struct Standby {
    reported: Option<Owners>,
}

/// The shards of each worker, by the workers' ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owners(BTreeMap<String, Vec<ShardId>>);

impl Standby {
    /// Which worker has which shard if `me` has none, and if that differs from the last report.
    pub(super) fn update(&mut self, me: &str, workers: &LiveWorkers, shards: ShardLayout) -> Option<&Owners> {
        let owners = owners(workers, shards);
        if owners.contains_key(me) || owners.is_empty() {
            self.reported = None;
            return None;
        }
        let owners = Owners(owners.into_iter().map(|(worker, of)| (worker.to_owned(), of)).collect());
        if self.reported.as_ref() == Some(&owners) {
            return None;
        }
        Some(self.reported.insert(owners))
    }
}

impl fmt::Display for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (worker, shards)) in self.0.iter().enumerate() {
            let shards: Vec<String> = shards.iter().map(ShardId::to_string).collect();
            write!(f, "{}{worker}: {}", if at == 0 { "" } else { "; " }, shards.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_without_a_shard_reports_the_owners_when_they_change() {
        let one = ShardLayout::new(1).unwrap();
        let live = |ids: &[&str]| LiveWorkers {
            ids: ids.iter().map(|&id| id.to_owned()).collect(),
            know_shares: true,
        };
        let all = live(&["a", "b", "c"]);
        let owner = owners(&all, one).into_keys().next().unwrap().to_owned();
        let mut others = all.ids.iter().filter(|worker| **worker != owner);
        let (me, other) = (others.next().unwrap(), others.next().unwrap());

        let mut standby = Standby::default();
        assert_eq!(standby.update(&owner, &all, one), None, "it has the shard");
        let report = standby.update(me, &all, one).unwrap();
        assert_eq!(report.to_string(), format!("{owner}: 0"));
        assert_eq!(standby.update(me, &all, one), None, "nothing has changed");
        let fewer = live(&[&owner, me]);
        assert_eq!(standby.update(me, &fewer, one), None, "{other} had no shard either");

        assert_eq!(standby.update(me, &live(&[me]), one), None);
        assert!(standby.update(me, &all, one).is_some(), "it has given the shard up");
    }
}
