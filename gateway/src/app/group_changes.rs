//! Builds what changes groups.

use std::sync::Arc;

use shared::ids::ConnectionId;

use super::parts::{Builder, Groups};
use crate::membership::{GroupChanges, Telling};
use crate::send::{Sends, SystemEntries};

impl Builder {
    /// Changes of groups, and the entries about them.
    pub(super) fn group_changes(&self, groups: &Groups, sends: &Arc<Sends>) -> Arc<GroupChanges> {
        let pool = &self.stores.pool;
        // Connections are counted from 1.
        let origin = ConnectionId { gateway: self.gateway, connection: 0 };
        let entries = SystemEntries::new(pool.clone(), Arc::clone(sends), origin, self.tasks.clone());
        let entries = Arc::new(entries);
        self.tasks.spawn_essential("system entries", Arc::clone(&entries).run());
        let telling = Telling {
            barriers: Arc::clone(&groups.barriers),
            inbox_updates: groups.inbox_updates.clone(),
            entries: Box::new(entries),
        };
        let memberships = Arc::clone(&groups.memberships);
        Arc::new(GroupChanges::new(pool.clone(), memberships, telling, groups.policy))
    }
}
