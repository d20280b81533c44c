//! What a gateway has recorded about its users, and what it has to record next.
//!
//! An entry is the present state of a user, never a change, so the order and number of the changes before it do not matter.
//! Changes come before everything else, because logins wait for them. When entries may be missing, a *pass* records all users.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ahash::AHashMap;

use crate::ids::UserId;

/// The lowest revision of an entry: 1 is that of every entry of a gateway of an earlier version, which receives no events of its
/// own.
pub const REVISION_MIN: u64 = 2;

/// Users whose change is not recorded while Redis is unavailable. Beyond, those for whom no login waits are forgotten: the
/// entries of those who have gone expire.
const CHANGED_MAX: usize = 65_536;
/// A gateway that Redis did not answer for this long may have been considered dead by workers.
const OUT_OF_REACH: Duration = Duration::from_secs(6);

/// Users to be recorded in one round trip.
#[derive(Debug)]
pub struct Write<W> {
    /// The users. Whether each is connected is looked up when the write is made.
    pub users: Vec<UserId>,
    /// Its revision.
    pub revision: u64,
    /// A pass begins: the revision becomes the mark of this gateway in Redis. Without the mark that it has written last, Redis
    /// has lost data. No other write makes it, so that a write whose answer is lost cannot hide that it was gone.
    pub begins: bool,
    waiting: Vec<(UserId, W)>,
    /// It is a part of the present pass.
    of_pass: bool,
}

/// What a successful write has come to.
#[derive(Debug)]
pub struct Written<W> {
    /// Their users are recorded.
    pub done: Vec<W>,
    /// A pass has ended.
    pub complete: Option<Complete>,
}

/// All users are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// In these runs, to be announced.
    pub runs: BTreeSet<String>,
    /// Workers may have missed entries before, and could not know it: all clients have to pull.
    pub resync: bool,
}

/// The state of the entries of one gateway. `W` is what waits for the entry of a user.
#[derive(Debug)]
pub struct Records<W> {
    /// Users whose change is not recorded yet, also those who have gone: nothing else would remove their entries.
    changed: AHashMap<UserId, Vec<W>>,
    revision: u64,
    /// The mark that this gateway wrote last; `None` before the first, and after a loss.
    mark: Option<u64>,
    /// When Redis last answered.
    answered: Instant,
    /// The runs in which all users were recorded by the last pass.
    complete: BTreeSet<String>,
    /// When the last pass that has ended began; `None` if one is due.
    passed: Option<Instant>,
    pass: Option<Pass>,
    /// Redis has lost entries, and not all users are recorded since.
    lost: Option<Lost>,
    /// All users are recorded again after this time, so that no entry expires.
    renewed_after: Duration,
}

/// How entries were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// While Redis answered this gateway: workers knew it as live, and know of the loss if the run is another one.
    Live,
    /// Redis had not answered for a while: workers may have taken this gateway for dead.
    OutOfReach,
}

#[derive(Debug)]
struct Pass {
    began: Instant,
    /// Its mark is written.
    is_marked: bool,
    runs: BTreeSet<String>,
    /// Those that are not recorded yet.
    users: Vec<UserId>,
}

impl<W> Records<W> {
    /// Nothing is recorded. All users are recorded again after `renewed_after`.
    #[must_use]
    pub fn new(renewed_after: Duration, now: Instant) -> Self {
        Self {
            changed: AHashMap::new(),
            revision: REVISION_MIN - 1,
            mark: None,
            answered: now,
            complete: BTreeSet::new(),
            passed: None,
            pass: None,
            lost: None,
            renewed_after,
        }
    }

    /// A connection of `user` was opened or closed; `waiting` waits until that is recorded.
    pub fn changed(&mut self, user: UserId, waiting: Option<W>) {
        self.changed.entry(user).or_default().extend(waiting);
    }

    /// Changes may have been missed.
    pub fn changes_missed(&mut self) {
        (self.passed, self.pass) = (None, None);
    }

    /// Whether [`next_write`](Self::next_write) has something.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.changed.is_empty() || self.pass.is_some()
    }

    /// At most `users_max` users to be recorded next. With nothing to record it has no users, and serves to find lost entries.
    /// Each write is reported before the next one is made.
    pub fn next_write(&mut self, users_max: usize) -> Write<W> {
        self.revision += 1;
        let revision = self.revision;
        if self.changed.is_empty()
            && let Some(pass) = &mut self.pass
        {
            let users = pass.users.split_off(pass.users.len().saturating_sub(users_max));
            let begins = !pass.is_marked;
            return Write { users, revision, begins, waiting: Vec::new(), of_pass: true };
        }
        let users: Vec<UserId> = self.changed.keys().take(users_max).cloned().collect();
        let mut waiting = Vec::new();
        for user in &users {
            let of_user = self.changed.remove(user).unwrap_or_default();
            waiting.extend(of_user.into_iter().map(|one| (user.clone(), one)));
        }
        Write { users, revision, begins: false, waiting, of_pass: false }
    }

    /// Redis has recorded `write`, and had `found` as the mark of this gateway before.
    pub fn written(&mut self, write: Write<W>, found: Option<u64>, now: Instant) -> Written<W> {
        if self.mark.is_some() && found != self.mark {
            let is_out_of_reach = now.duration_since(self.answered) > OUT_OF_REACH;
            self.lost = if is_out_of_reach { Some(Lost::OutOfReach) } else { self.lost.or(Some(Lost::Live)) };
            self.mark = None;
            if !write.begins {
                self.changes_missed();
            }
        }
        self.answered = now;
        if let Some(pass) = self.pass.as_mut().filter(|_| write.begins) {
            (self.mark, pass.is_marked) = (Some(write.revision), true);
        }
        let is_last = |pass: &mut Pass| write.of_pass && pass.users.is_empty();
        let complete = self.pass.take_if(is_last).map(|pass| self.complete(pass));
        Written { done: write.waiting.into_iter().map(|(_, waiting)| waiting).collect(), complete }
    }

    fn complete(&mut self, pass: Pass) -> Complete {
        self.passed = Some(pass.began);
        let resync = match self.lost.take() {
            None => false,
            // In a run that was not announced before, workers expect no entries.
            Some(Lost::Live) => pass.runs.is_subset(&self.complete),
            Some(Lost::OutOfReach) => true,
        };
        self.complete.clone_from(&pass.runs);
        Complete { runs: pass.runs, resync }
    }

    /// Redis did not confirm `write`, which may be recorded all the same, or later.
    pub fn failed(&mut self, write: Write<W>) {
        if write.begins && self.mark.is_some() {
            // The mark before it may have been gone: only its answer could tell.
            self.lost = self.lost.or(Some(Lost::Live));
            self.mark = None;
        }
        for user in write.users {
            self.changed.entry(user).or_default();
        }
        for (user, waiting) in write.waiting {
            self.changed.entry(user).or_default().push(waiting);
        }
        if self.changed.len() > CHANGED_MAX {
            self.changed.retain(|_, waiting| !waiting.is_empty());
            self.changes_missed();
        }
    }

    /// The servers of Redis have these runs; `None`: that could not be read. Begins a pass over the users that `all` returns,
    /// if one is due.
    pub fn checked(
        &mut self,
        runs: Option<BTreeSet<String>>,
        all: impl FnOnce() -> Vec<UserId>,
        now: Instant,
    ) {
        let is_due = self.passed.is_none_or(|began| now.duration_since(began) > self.renewed_after);
        let is_other = |than: &BTreeSet<String>| runs.as_ref().is_some_and(|runs| runs != than);
        let begins = match &self.pass {
            Some(pass) => is_other(&pass.runs),
            None => is_due || is_other(&self.complete),
        };
        if begins {
            let runs = runs.unwrap_or_default();
            self.pass = Some(Pass { began: now, is_marked: false, runs, users: all() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENEWED_AFTER: Duration = Duration::from_secs(100);

    fn users(names: &[&str]) -> Vec<UserId> {
        names.iter().map(|name| UserId::parse(name).unwrap()).collect()
    }

    fn runs(name: &str) -> BTreeSet<String> {
        BTreeSet::from([name.to_owned()])
    }

    /// Writes what is next, which Redis confirms without a loss.
    fn write(records: &mut Records<u32>, now: Instant) -> (Vec<UserId>, Written<u32>) {
        let write = records.next_write(2);
        let (users, mark) = (write.users.clone(), records.mark);
        (users, records.written(write, mark, now))
    }

    /// A pass over `all` has ended in run `a`.
    fn complete(all: &[&str], now: Instant) -> Records<u32> {
        let mut records = Records::new(RENEWED_AFTER, now);
        records.checked(Some(runs("a")), || users(all), now);
        while records.is_behind() {
            write(&mut records, now);
        }
        records
    }

    #[test]
    fn changes_come_before_the_pass_and_tell_those_who_wait_for_them() {
        let now = Instant::now();
        let mut records = Records::new(RENEWED_AFTER, now);
        records.checked(Some(runs("a")), || users(&["u1", "u2", "u3"]), now);
        let (first, written) = write(&mut records, now);
        assert_eq!((first, written.complete), (users(&["u2", "u3"]), None));
        records.changed(users(&["u9"])[0].clone(), Some(7));
        let (changed, written) = write(&mut records, now);
        assert_eq!((changed, written.done, written.complete), (users(&["u9"]), vec![7], None));
        let (rest, written) = write(&mut records, now);
        let expected = Complete { runs: runs("a"), resync: false };
        assert_eq!((rest, written.complete), (users(&["u1"]), Some(expected)));
        assert!(!records.is_behind());
    }

    #[test]
    fn a_pass_is_due_after_a_while_in_another_run_and_when_changes_were_missed() {
        let now = Instant::now();
        let is_due = |records: &mut Records<u32>, found: Option<&str>, after: Duration| {
            records.checked(found.map(runs), Vec::new, now + after);
            records.is_behind()
        };
        let (soon, late) = (Duration::from_secs(1), RENEWED_AFTER * 2);
        assert!(!is_due(&mut complete(&["u1"], now), Some("a"), soon));
        assert!(!is_due(&mut complete(&["u1"], now), None, soon));
        assert!(is_due(&mut complete(&["u1"], now), Some("a"), late));
        assert!(is_due(&mut complete(&["u1"], now), None, late));
        assert!(is_due(&mut complete(&["u1"], now), Some("b"), soon));
        let mut records = complete(&["u1"], now);
        records.changes_missed();
        assert!(is_due(&mut records, Some("a"), soon));
    }

    #[test]
    fn those_who_wait_are_told_only_after_a_write_that_succeeded() {
        let now = Instant::now();
        let mut records = complete(&[], now);
        records.changed(users(&["u1"])[0].clone(), Some(1));
        let failed = records.next_write(2);
        records.failed(failed);
        let (again, written) = write(&mut records, now);
        assert_eq!((again, written.done), (users(&["u1"]), vec![1]));
        records.checked(Some(runs("a")), Vec::new, now);
        assert!(!records.is_behind());
    }

    #[test]
    fn lost_entries_are_recorded_again_with_a_resync_if_workers_cannot_know() {
        let begun = Instant::now();
        let table = [
            ("a", Duration::from_secs(1), true),
            ("b", Duration::from_secs(1), false),
            ("b", OUT_OF_REACH * 2, true),
        ];
        for (run, after, resync) in table {
            let (mut records, now) = (complete(&["u1"], begun), begun + after);
            let lost = records.next_write(2);
            records.written(lost, None, now);
            records.checked(Some(runs(run)), || users(&["u1"]), now);
            let (recorded, written) = write(&mut records, now);
            let expected = Complete { runs: runs(run), resync };
            assert_eq!((recorded, written.complete), (users(&["u1"]), Some(expected)), "{run} {after:?}");
        }
    }
}
