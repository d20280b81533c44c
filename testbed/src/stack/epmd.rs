//! Erlang's port mapper, and names that are registered in it for nodes elsewhere.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::engines::Program;
use super::process::Process;
use super::wait_for;

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a port mapper on loopback, and waits until it answers.
pub(super) async fn start(folder: &Path, port: u16) -> anyhow::Result<Process> {
    let epmd = Program::find(&["epmd"]).context("epmd, a part of Erlang, is not installed")?;
    let mut process = epmd.start("epmd", &folder.join("epmd.log"), folder, |command| {
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
    })?;
    wait_for("epmd", START_TIMEOUT, async || {
        process.must_run()?;
        TcpStream::connect(("127.0.0.1", port)).await?;
        Ok(())
    })
    .await?;
    Ok(process)
}

/// A name in a port mapper, until it is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    /// The port mapper forgets the name when it ends.
    _connection: TcpStream,
}

impl Registration {
    /// Registers the node `name` (without its host) at the port mapper of `epmd_port`: nodes that use this one connect to
    /// `port`.
    pub(super) async fn new(epmd_port: u16, name: &str, port: u16) -> anyhow::Result<Self> {
        /// ALIVE2_REQ and its answers, of Erlang's distribution protocol.
        const REQUEST: u8 = 120;
        const ANSWERS: [u8; 2] = [121, 118];
        const VISIBLE_NODE: u8 = 77;
        const TCP: u8 = 0;
        const VERSIONS: [u16; 2] = [6, 5];
        let mut request = vec![REQUEST];
        request.extend(port.to_be_bytes());
        request.extend([VISIBLE_NODE, TCP]);
        VERSIONS.iter().for_each(|version| request.extend(version.to_be_bytes()));
        request.extend(u16::try_from(name.len())?.to_be_bytes());
        request.extend(name.as_bytes());
        request.extend(0_u16.to_be_bytes());
        let mut connection = TcpStream::connect(("127.0.0.1", epmd_port)).await?;
        connection.write_all(&u16::try_from(request.len())?.to_be_bytes()).await?;
        connection.write_all(&request).await?;
        let mut answer = [0; 2];
        connection.read_exact(&mut answer).await?;
        anyhow::ensure!(
            ANSWERS.contains(&answer[0]) && answer[1] == 0,
            "epmd refused the name {name}: {answer:?}"
        );
        Ok(Self { _connection: connection })
    }
}
