//! Which worker consumes which shard: rendezvous hashing.
//!
//! Pure. Each shard goes to the live worker with the highest hash of both names (D. Thaler and C. Ravishankar, "Using
//! Name-Based Mappings to Increase Hit Rates", 1998). All workers that see the same list of workers agree without
//! talking to each other; when a worker joins or leaves, only its own shards move. While their lists differ, two workers
//! may both claim a shard: the broker's single active consumer and the row locks make that safe.

use std::collections::BTreeMap;

use shared::shard::{ShardCount, ShardId};
use xxhash_rust::xxh64::xxh64;

/// The shards of `me`, rising. `workers` are the live workers, with or without `me`.
#[must_use]
pub(crate) fn shards_of(me: &str, workers: &[String], shards: ShardCount) -> Vec<ShardId> {
    shards
        .all()
        .filter(|shard| {
            let mine = weight(me, *shard);
            // Of equal weights the one with the greater name wins, so that each shard has exactly one owner.
            workers.iter().all(|other| other == me || (weight(other, *shard), other.as_str()) < (mine, me))
        })
        .collect()
}

/// The shards of each of `workers`, rising; a worker without a shard is not in it.
#[must_use]
pub(super) fn owners(workers: &[String], shards: ShardCount) -> BTreeMap<&str, Vec<ShardId>> {
    let mut owners: BTreeMap<&str, Vec<ShardId>> = BTreeMap::new();
    for shard in shards.all() {
        if let Some(owner) = workers.iter().max_by_key(|worker| (weight(worker, shard), worker.as_str())) {
            owners.entry(owner).or_default().push(shard);
        }
    }
    owners
}

fn weight(worker: &str, shard: ShardId) -> u64 {
    xxh64(worker.as_bytes(), u64::from(shard.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn owners_by_shard(workers: &[String], shards: ShardCount) -> BTreeMap<ShardId, Vec<&str>> {
        let mut owners: BTreeMap<ShardId, Vec<&str>> = shards.all().map(|shard| (shard, vec![])).collect();
        for worker in workers {
            for shard in shards_of(worker, workers, shards) {
                owners.entry(shard).or_default().push(worker);
            }
        }
        owners
    }

    #[test]
    fn a_single_worker_has_every_shard() {
        let shards = ShardCount::new(8).unwrap();
        assert_eq!(shards_of("a", &[], shards).len(), 8);
        assert_eq!(shards_of("a", &["a".to_owned()], shards).len(), 8);
    }

    #[test]
    fn many_shards_are_spread_evenly() {
        let workers: Vec<String> = (0..4).map(|n| format!("worker-{n}")).collect();
        for worker in &workers {
            let share = shards_of(worker, &workers, ShardCount::new(1000).unwrap()).len();
            assert!((180..=320).contains(&share), "{worker} has {share} of 1000");
        }
    }

    proptest! {
        #[test]
        fn every_shard_has_one_owner_and_a_new_worker_moves_only_its_own_shards(
            workers in proptest::collection::btree_set("[a-z0-9-]{1,12}", 1..6),
            newcomer in "[A-Z]{1,12}",
            count in 1u16..64,
        ) {
            let shards = ShardCount::new(count).unwrap();
            let before: Vec<String> = workers.iter().cloned().collect();
            let after: Vec<String> = workers.into_iter().chain([newcomer.clone()]).collect::<BTreeSet<_>>().into_iter().collect();
            for (worker, of) in owners(&after, shards) {
                prop_assert_eq!(of, shards_of(worker, &after, shards));
            }
            let (before, after) = (owners_by_shard(&before, shards), owners_by_shard(&after, shards));
            for (shard, owner) in &after {
                prop_assert_eq!(owner.len(), 1);
                prop_assert!(owner == &before[shard] || owner == &[newcomer.as_str()]);
            }
        }
    }
}
