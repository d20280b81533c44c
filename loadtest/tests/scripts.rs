//! `./run` and `./test` on machines where something is missing: one line that says what to type, before any build.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

/// What Debian's essential packages have and the scripts use.
const ESSENTIAL: [&str; 11] = ["sh", "cat", "sed", "cut", "tr", "find", "head", "df", "awk", "id", "dirname"];

/// A machine with the essential programs and `others`, which print what is given beside their name.
fn machine(others: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ESSENTIAL {
        let places = ["/bin", "/usr/bin"].map(|place| Path::new(place).join(name));
        symlink(places.iter().find(|place| place.exists()).unwrap(), folder.path().join(name)).unwrap();
    }
    for (name, prints) in others {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\necho '{prints}'\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

fn start(script: &str, arguments: &[&str], machine: &tempfile::TempDir) -> (Output, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new("/bin/sh")
        .arg(root.join(script))
        .args(arguments)
        .env_clear()
        .env("PATH", machine.path())
        .env("HOME", machine.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn a_machine_without_a_compiler_and_apt_is_told_the_packages() {
    let bare = machine(&[]);
    for script in ["run", "test"] {
        let (output, said) = start(script, &[], &bare);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with(&format!("{script}: missing: gcc")) && said.contains(" make "), "{said}");
    }
}

#[test]
fn an_old_rust_is_named_with_the_line_that_installs_a_new_one() {
    let tools = [("cc", ""), ("make", ""), ("curl", ""), ("cargo", ""), ("rustc", "rustc 1.63.0 (abc 2022)")];
    let servers = [("mariadbd", ""), ("redis-server", ""), ("rabbitmq-server", "")];
    let old = machine(&[&tools[..], &servers[..]].concat());
    let (output, said) = start("run", &[], &old);
    // Without libc's headers on the test's own machine, these are missing first.
    if Path::new("/usr/include/stdio.h").exists() {
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("is 1.63.0") && said.contains("sh.rustup.rs"), "{said}");
    }
}

#[test]
fn help_needs_nothing() {
    let bare = machine(&[]);
    for script in ["run", "test"] {
        let (output, said) = start(script, &["--help"], &bare);
        assert!(output.status.success(), "{said}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(&format!("Usage: ./{script}")));
    }
}
