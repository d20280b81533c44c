//! Finds programs of this machine.

use std::path::PathBuf;

/// Folders of programs that are not on every user's `PATH`.
const MORE_FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/lib/rabbitmq/bin"];

/// Folders of the programs of a Debian system.
pub(super) const DEBIAN_FOLDERS: [&str; 4] = ["/usr/lib/rabbitmq/bin", "/usr/sbin", "/usr/bin", "/sbin"];

/// The file of `program`, from the `PATH` or one of the usual folders.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(MORE_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The library that gives a process a clock of its own, if it is installed.
#[must_use]
pub fn libfaketime() -> Option<PathBuf> {
    std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path()).find_map(|folder| {
        let file = folder.join("faketime/libfaketimeMT.so.1");
        file.is_file().then_some(file)
    })
}
