//! The build script of gateway and worker: the commit for builds that do not name it in `IM_COMMIT`.
//!
//! It asks git in optimized builds only, and again only when HEAD has moved: a developer's build is not stale after each
//! commit. `main.rs` prefers `IM_COMMIT`, which therefore is no reason to run this again.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed={}", concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/build/commit.rs"));
    let is_named = std::env::var_os("IM_COMMIT").is_some_and(|commit| !commit.is_empty());
    let is_debug = std::env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    if is_named || is_debug || !is_own_repository() {
        return;
    }
    // The log of HEAD changes with each commit and each checkout.
    let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) else { return };
    if !Path::new(&log).is_file() {
        return;
    }
    println!("cargo:rerun-if-changed={log}");
    if let Some(commit) = git(&["rev-parse", "--short=7", "HEAD"]) {
        println!("cargo:rustc-env=IM_GIT_COMMIT={commit}");
    }
}

/// Sources without a repository may lie in the folder of another one.
fn is_own_repository() -> bool {
    let root = git(&["rev-parse", "--show-toplevel"]).and_then(|root| Path::new(&root).canonicalize().ok());
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize();
    root.is_some_and(|root| own.is_ok_and(|own| own == root))
}

/// What git prints, if there is a git and it succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
