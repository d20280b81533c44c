//! The small disk of MySQL's data.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use testbed::stack::Servers;

/// Bytes that are written at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// The disk of a system's MySQL, if it was [made so](testbed::stack::Builder::small_disk).
#[derive(Debug)]
pub(crate) struct MysqlDisk {
    filler: PathBuf,
}

impl MysqlDisk {
    /// # Errors
    /// If the data are not on a small disk: the machine's own is not to be filled.
    pub(crate) fn of(servers: &Servers) -> anyhow::Result<Self> {
        let disk = servers.mysql.small_disk().context("MySQL has no small disk of its own")?;
        Ok(Self { filler: disk.join("filler") })
    }

    /// Writes until the disk is full.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut file = std::fs::File::create(&self.filler)?;
        let block = vec![0; BLOCK_BYTES];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes what [`fill`](Self::fill) has written.
    pub(crate) fn free(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(&self.filler)?)
    }
}
