//! The examples of documents, run as they stand there.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;

use crate::stack::{free_port, wait_for};

/// Whether python3 is there; without it, a line says that `what` is not tested.
///
/// # Panics
/// Without it, if `IM_ALL_TOOLS` is set.
#[must_use]
pub fn has_python(what: &str) -> bool {
    let is_there = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        assert!(std::env::var_os("IM_ALL_TOOLS").is_none(), "python3 is missing");
        println!("SKIPPED: {what} is not tested without python3");
    }
    is_there
}

/// The first block of `language` in a document, such as `docs/hook.md`.
///
/// # Errors
/// The document cannot be read, or has no such block.
pub fn block(document: &str, language: &str) -> anyhow::Result<String> {
    let page = std::fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(document))?;
    let (_, rest) = page.split_once(&format!("```{language}\n")).context("there is no such block")?;
    let (block, _) = rest.split_once("```").context("the block has no end")?;
    Ok(block.to_owned())
}

/// A server in Python, killed when it is dropped.
#[derive(Debug)]
pub struct PythonServer {
    process: Child,
    /// Where it listens.
    pub port: u16,
}

impl PythonServer {
    /// Runs `code` with `environment`, and with the port to listen on as `PORT`; waits until it listens.
    ///
    /// # Errors
    /// It does not listen within `timeout`.
    pub async fn start(
        code: &str,
        environment: &[(&str, &OsStr)],
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut python = Command::new("python3");
        python.args(["-c", code]).env("PORT", port.to_string()).envs(environment.iter().copied());
        let server = Self { process: python.stderr(Stdio::null()).spawn()?, port };
        wait_for("the example", timeout, async || {
            TcpStream::connect(("127.0.0.1", port)).await?;
            Ok(())
        })
        .await?;
        Ok(server)
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
