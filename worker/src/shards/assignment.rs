//! Which worker consumes which shard.
//!
//! Pure. Rendezvous hashing ranks the workers for each shard by the hash of both names (D. Thaler and C. Ravishankar, "Using
//! Name-Based Mappings to Increase Hit Rates", 1998). The first one gets the shard, unless it has its share already: each
//! worker gets the number of shards divided by that of workers, some of them one more. All workers that see the same list of
//! workers agree without talking to each other. While their lists differ, two workers may both claim a shard: the broker's
//! single active consumer and the row locks make that safe.
//!
//! Workers of earlier versions know no shares. While one of them is alive, all follow its rule, so that each shard has an
//! owner.

use std::collections::BTreeMap;

use shared::redis::liveness_registry::LiveWorkers;
use shared::shard::{ShardId, ShardLayout};
use xxhash_rust::xxh64::xxh64;

/// The shards of each live worker, rising; a worker without a shard is not in it.
#[must_use]
pub fn owners(workers: &LiveWorkers, shards: ShardLayout) -> BTreeMap<&str, Vec<ShardId>> {
    let mut owners: BTreeMap<&str, Vec<ShardId>> = BTreeMap::new();
    if workers.ids.is_empty() {
        return owners;
    }
    let (count, all) = (workers.ids.len(), usize::from(shards.get()));
    // Without shares, anyone may have all.
    let (share, mut larger_shares) = if workers.know_shares { (all / count, all % count) } else { (all, 0) };
    for shard in shards.all() {
        let has_room = |worker: &&str| {
            let has = owners.get(worker).map_or(0, Vec::len);
            has < share || (has == share && larger_shares > 0)
        };
        let workers = workers.ids.iter().map(String::as_str);
        // Of equal weights the one with the greater name wins, so that each shard has exactly one owner.
        let owner = workers.filter(has_room).max_by_key(|worker| (weight(worker, shard), *worker));
        let Some(owner) = owner else { continue };
        let owned = owners.entry(owner).or_default();
        if owned.len() == share {
            larger_shares -= 1;
        }
        owned.push(shard);
    }
    owners
}

/// The shards of `me`, which is one of `workers`, rising.
#[must_use]
pub(crate) fn shards_of(me: &str, workers: &LiveWorkers, shards: ShardLayout) -> Vec<ShardId> {
    owners(workers, shards).remove(me).unwrap_or_default()
}

fn weight(worker: &str, shard: ShardId) -> u64 {
    xxh64(worker.as_bytes(), u64::from(shard.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn live(ids: impl IntoIterator<Item = impl Into<String>>, know_shares: bool) -> LiveWorkers {
        LiveWorkers { ids: ids.into_iter().map(Into::into).collect(), know_shares }
    }

    fn owner_of_each(workers: &LiveWorkers, shards: ShardLayout) -> BTreeMap<ShardId, String> {
        let mut owner_of_each = BTreeMap::new();
        for worker in &workers.ids {
            for shard in shards_of(worker, workers, shards) {
                assert!(owner_of_each.insert(shard, worker.clone()).is_none(), "{shard} has two owners");
            }
        }
        assert_eq!(owner_of_each.len(), usize::from(shards.get()), "a shard has no owner");
        owner_of_each
    }

    #[test]
    fn a_single_worker_has_every_shard() {
        let shards = ShardLayout::new(8).unwrap();
        for know_shares in [false, true] {
            assert_eq!(shards_of("a", &live(["a"], know_shares), shards).len(), 8);
        }
        assert!(owners(&live([""; 0], true), shards).is_empty());
    }

    #[test]
    fn two_workers_have_one_of_two_shards_each_whatever_their_names() {
        let shards = ShardLayout::new(2).unwrap();
        for n in 0..100 {
            let workers = live([format!("worker-{n}"), format!("worker-{}", n + 1)], true);
            assert!(owners(&workers, shards).values().all(|of| of.len() == 1), "{n}");
        }
    }

    #[test]
    fn few_shards_move_when_a_worker_joins() {
        let shards = ShardLayout::new(64).unwrap();
        let moved = |before: usize| {
            let names = |count: usize| (0..count).map(|n| format!("worker-{n}"));
            let (before, after) = (live(names(before), true), live(names(before + 1), true));
            let (before, after) = (owner_of_each(&before, shards), owner_of_each(&after, shards));
            before.iter().filter(|(shard, owner)| after[shard] != **owner).count()
        };
        // The least is the share of the newcomer: 32, 16, 8.
        let moved = [1, 3, 7].map(moved);
        assert!(moved[0] == 32 && moved[1] <= 32 && moved[2] <= 24, "{moved:?}");
    }

    proptest! {
        #[test]
        fn every_shard_has_one_owner_and_all_shares_are_equal_or_differ_by_one(
            workers in proptest::collection::btree_set("[a-z0-9-]{1,12}", 1..9),
            count in 1u16..64,
        ) {
            let (shards, workers) = (ShardLayout::new(count).unwrap(), live(workers, true));
            owner_of_each(&workers, shards);
            let sizes: Vec<usize> = workers.ids.iter().map(|id| shards_of(id, &workers, shards).len()).collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", sizes);
        }

        #[test]
        fn without_shares_a_new_worker_moves_only_its_own_shards(
            workers in proptest::collection::btree_set("[a-z0-9-]{1,12}", 1..6),
            newcomer in "[A-Z]{1,12}",
            count in 1u16..64,
        ) {
            let shards = ShardLayout::new(count).unwrap();
            let before = live(workers.clone(), false);
            let after = live(workers.into_iter().chain([newcomer.clone()]).collect::<BTreeSet<_>>(), false);
            let (before, after) = (owner_of_each(&before, shards), owner_of_each(&after, shards));
            for (shard, owner) in &after {
                prop_assert!(owner == &before[shard] || *owner == newcomer);
            }
        }
    }
}
