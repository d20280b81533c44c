//! Processes that a program has left behind.
//!
//! A test runner that is killed leaves its tests running, and they have processes of their own. Linux makes the nearest
//! "subreaper" their parent, which finds them there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A killed process may take a moment to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes this process the parent of all descendants whose own parent ends.
///
/// # Errors
/// As the kernel says.
pub(super) fn adopt() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Kills all descendants of this process, except `own` children and theirs.
pub(super) async fn kill_all(own: &[u32]) {
    let own: BTreeSet<u32> = own.iter().copied().collect();
    let deadline = Instant::now() + END_TIMEOUT;
    loop {
        // Again and again: a process may start another one before it is killed.
        let orphans = descendants(std::process::id(), &own, &parents());
        if orphans.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            eprintln!("these processes do not end: {orphans:?}");
            return;
        }
        for id in orphans.into_iter().filter_map(|id| i32::try_from(id).ok()).map(Pid::from_raw) {
            // It may have ended, and only children can be waited for.
            let _ = kill(id, Signal::SIGKILL);
            let _ = waitpid(id, Some(WaitPidFlag::WNOHANG));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The descendants of `root`, without the `own` children and their descendants.
fn descendants(root: u32, own: &BTreeSet<u32>, parents: &BTreeMap<u32, u32>) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for (child, _) in parents.iter().filter(|(child, of)| **of == parent && !own.contains(child)) {
            if found.insert(*child) {
                next.push(*child);
            }
        }
    }
    found
}

/// The parent of each process (proc(5): field 4 of `stat`).
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let parent = |id: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name, in parentheses, may hold blanks.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id| Some((id, parent(id)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_except_those_of_own_children() {
        // A child with a grandchild, a server with a child of its own, and processes of others.
        let parents = BTreeMap::from([(10, 1), (11, 10), (20, 1), (21, 20), (30, 2), (1, 0), (2, 0)]);
        assert_eq!(descendants(1, &BTreeSet::from([20]), &parents), BTreeSet::from([10, 11]));
        assert_eq!(descendants(30, &BTreeSet::new(), &parents), BTreeSet::new());
    }

    #[test]
    fn the_parent_of_this_process_is_known() {
        assert_eq!(parents().get(&std::process::id()), Some(&std::os::unix::process::parent_id()));
    }
}
