//! Temporary folders that are removed even if their process was killed.
//!
//! Each folder holds a file that its owner locks. The lock ends with the process, so the next process that makes a
//! temporary folder recognizes the ones that nobody owns, and removes them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use nix::fcntl::{Flock, FlockArg};

/// Begins the name of each folder.
const PREFIX: &str = "im-testbed-";
/// Locked by the owner. A folder without it is kept.
const LOCK: &str = "owner.lock";
/// Its name until it is locked.
const UNLOCKED: &str = "owner.lock.new";

/// A folder of this process, removed when dropped, or by the next process if this one is killed.
#[derive(Debug)]
pub struct TemporaryFolder {
    path: PathBuf,
    /// `None` once the folder is to be kept.
    lock: Option<Flock<File>>,
}

impl TemporaryFolder {
    /// Makes an empty folder. The first call in a process removes those that killed processes left behind.
    ///
    /// # Errors
    /// If the folder or its lock cannot be made.
    pub fn new() -> io::Result<Self> {
        static FIRST: Once = Once::new();
        FIRST.call_once(remove_abandoned_folders);
        Self::new_in(&std::env::temp_dir())
    }

    fn new_in(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let unlocked = folder.path().join(UNLOCKED);
        // Locked before it has its name: a lock that is free always means that the owner has ended.
        let lock = lock(File::create_new(&unlocked)?)?;
        std::fs::rename(unlocked, folder.path().join(LOCK))?;
        Ok(Self { path: folder.keep(), lock: Some(lock) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder behind for someone to look at; no process removes it.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        // Left in place, the lock would let the next process remove the folder.
        let _ = std::fs::remove_file(self.path.join(LOCK));
        self.lock = None;
        self.path.clone()
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // The lock is held until the folder is gone.
        if self.lock.is_some()
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("removing the temporary folder {}: {error}", self.path.display());
        }
    }
}

/// Removes the folders of processes that have ended without doing so.
pub fn remove_abandoned_folders() {
    remove_abandoned_folders_in(&std::env::temp_dir());
}

fn remove_abandoned_folders_in(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for folder in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        // Another process may remove it at the same moment.
        if let Err(error) = remove_if_abandoned(&folder.path())
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("removing the abandoned folder {}: {error}", folder.path().display());
        }
    }
}

fn remove_if_abandoned(folder: &Path) -> io::Result<()> {
    let metadata = folder.symlink_metadata()?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let file = File::open(folder.join(LOCK))?;
    // Held until the folder is gone.
    let Ok(_lock) = lock(file) else { return Ok(()) };
    std::fs::remove_dir_all(folder)
}

fn lock(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<PathBuf> {
        let mut names: Vec<_> =
            std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_removed_when_it_is_dropped_unless_it_is_kept() {
        let parent = tempfile::tempdir().unwrap();
        let dropped = TemporaryFolder::new_in(parent.path()).unwrap();
        let kept = TemporaryFolder::new_in(parent.path()).unwrap();
        std::fs::create_dir(dropped.path().join("data")).unwrap();
        drop(dropped);
        let kept = kept.keep();
        remove_abandoned_folders_in(parent.path());
        assert_eq!(names(parent.path()), [kept]);
    }

    #[test]
    fn only_folders_without_an_owner_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let owned = TemporaryFolder::new_in(parent.path()).unwrap();
        let mut abandoned = TemporaryFolder::new_in(parent.path()).unwrap();
        std::fs::write(abandoned.path().join("data"), "1").unwrap();
        // As the end of its process would.
        abandoned.lock = None;
        let other = parent.path().join("other");
        std::fs::create_dir(&other).unwrap();
        remove_abandoned_folders_in(parent.path());
        let mut left = vec![owned.path().to_owned(), other];
        left.sort();
        assert_eq!(names(parent.path()), left);
    }
}
