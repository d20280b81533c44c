//! Instructions for one run of a case, counted by valgrind: this program is run with two numbers of repetitions, and the
//! difference leaves only the repetitions.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::CASES;

/// Repetitions of the two counts.
const FEW: u64 = 50;
const MANY: u64 = 250;
/// A case may grow by this share before it is called a regression: other compilers and libraries differ a little.
pub const TOLERANCE: f64 = 0.05;

/// By case.
pub type Counts = BTreeMap<String, u64>;

/// Counts all cases.
///
/// # Errors
/// If valgrind is not installed, or says nothing.
pub fn count() -> anyhow::Result<Counts> {
    let own = std::env::current_exe()?;
    let each = |name: &str| -> anyhow::Result<u64> {
        let (few, many) = (collected(&own, name, FEW)?, collected(&own, name, MANY)?);
        Ok(many.saturating_sub(few) / (MANY - FEW))
    };
    CASES.iter().map(|case| Ok((case.name.to_owned(), each(case.name)?))).collect()
}

fn collected(program: &Path, case: &str, repetitions: u64) -> anyhow::Result<u64> {
    let out = tempfile::NamedTempFile::new()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.path().display())])
        .arg(program)
        .args(["run", case, &repetitions.to_string()])
        .output()
        .context("valgrind is not installed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{case}: {said}");
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = line.with_context(|| format!("{case}: valgrind said nothing: {said}"))?;
    Ok(count.trim().parse()?)
}

/// What became dearer than it was, as lines.
#[must_use]
pub fn dearer(before: &Counts, now: &Counts) -> Vec<String> {
    let grown = |(name, now): (&String, &u64)| {
        let Some(before) = before.get(name) else { return Some(format!("{name}: has no stored count")) };
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let share = *now as f64 / (*before).max(1) as f64 - 1.0;
        (share > TOLERANCE)
            .then(|| format!("{name}: {before} instructions became {now} (+{:.1} %)", share * 100.0))
    };
    now.iter().filter_map(grown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grew_too_much_is_told() {
        let before: Counts = [("a".to_owned(), 1_000), ("b".to_owned(), 1_000)].into();
        let now: Counts = [("a".to_owned(), 1_040), ("b".to_owned(), 1_100), ("c".to_owned(), 1)].into();
        let told = dearer(&before, &now);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("b: 1000 instructions became 1100 (+10.0 %)"), "{told:?}");
        assert!(told[1].starts_with("c: "));
    }
}
