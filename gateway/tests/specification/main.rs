//! The specifications in `docs/api` describe what the code does: every call of the router, and every frame.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod frames;
mod requests;
mod routes;

use std::path::PathBuf;

/// A file of the source tree.
fn source(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", name].iter().collect();
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}
