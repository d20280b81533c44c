//! Starts what a worker does for files.

use std::sync::Arc;

use filestore::{FileStore, StoreError};
use shared::config::Files;
use shared::mysql::Pool;
use shared::shard::ShardId;
use shared::shutdown::Shutdown;
use tokio::sync::watch;

use super::pictures::Pictures;
use super::sweeper::Sweeper;

/// Starts both, if there is a store. `shards`: those that this worker owns.
///
/// # Errors
/// The store is unusable.
pub(crate) fn start(
    config: &Files,
    pool: &Pool,
    shards: watch::Receiver<Vec<ShardId>>,
    working: &Shutdown,
) -> Result<(), StoreError> {
    let Some(store) = FileStore::open(config)? else { return Ok(()) };
    let pictures = Pictures::new(config, pool.clone(), Arc::clone(&store));
    working.spawn_essential("pictures", pictures.run(working.clone()));
    let sweeper = Sweeper::new(config, pool.clone(), store);
    working.spawn_essential("removal of files", sweeper.run(shards, working.clone()));
    Ok(())
}
