//! Redis, as far as presence needs it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::UserId;

#[derive(Debug, Default)]
pub(super) struct Redis {
    pub(super) run: u64,
    /// By user and gateway.
    pub(super) entries: BTreeMap<(UserId, u64), u64>,
    pub(super) marks: BTreeMap<u64, u64>,
    pub(super) beats: BTreeMap<u64, u64>,
    pub(super) announced: BTreeMap<u64, BTreeSet<String>>,
}

/// Users of a gateway with whether each is connected, and the revision.
pub(super) type States = (u64, Vec<(UserId, bool)>, u64);

impl Redis {
    /// A write: the entries, and the mark of the gateway, which is returned as it was before.
    pub(super) fn record(&mut self, states: &States, begins: bool) -> Option<u64> {
        self.record_entries(states, false);
        let (gateway, _, revision) = states;
        if begins { self.marks.insert(*gateway, *revision) } else { self.marks.get(gateway).copied() }
    }

    /// The script that records entries.
    pub(super) fn record_entries(&mut self, (gateway, states, revision): &States, in_any_order: bool) {
        for (user, is_here) in states {
            let known = self.entries.get(&(user.clone(), *gateway)).copied().unwrap_or(0);
            if known < *revision || in_any_order {
                let key = (user.clone(), *gateway);
                if *is_here {
                    self.entries.insert(key, *revision)
                } else {
                    self.entries.remove(&key)
                };
            }
        }
    }
}
