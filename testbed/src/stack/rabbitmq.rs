//! A private RabbitMQ.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use lapin::{Connection, ConnectionProperties};
use tokio::net::TcpStream;

use super::engines::Program;
use super::process::Process;
use super::{free_port, wait_for};

/// A node with its data in a folder of its own, and an epmd (Erlang's port mapper) of its own.
#[derive(Debug)]
pub struct RabbitServer {
    // Before its port mapper, so that it ends first.
    process: Option<Process>,
    epmd: Option<Process>,
    folder: PathBuf,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
}

impl RabbitServer {
    /// Starts it, on data that is there or new data, and waits until it answers.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder.join("home"))?;
        std::fs::write(folder.join("enabled_plugins"), "[].\n")?;
        std::fs::write(folder.join("rabbitmq.conf"), CONFIG)?;
        let mut server = Self {
            process: None,
            epmd: None,
            folder: std::path::absolute(folder)?,
            port: free_port()?,
            dist_port: free_port()?,
            epmd_port: free_port()?,
        };
        server.start_again().await?;
        Ok(server)
    }

    /// Starts it again on the same port after [`kill`](Self::kill).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.start_epmd().await?;
        // Found in a folder that is not on the PATH, where the wrapper insists on the user that the package made.
        let program = Program::find(&["rabbitmq-server"]).context("rabbitmq-server is not installed")?;
        let process =
            program.start("RabbitMQ", &self.folder.join("server.log"), &self.folder, |command| {
                self.set_up(command);
            })?;
        let process = self.process.insert(process);
        let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port);
        wait_for("RabbitMQ", Duration::from_secs(120), async || {
            process.must_run()?;
            let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
            Ok(connection.close(200, "ready".into()).await?)
        })
        .await
    }

    /// Erlang would start its port mapper as a daemon, which nothing stops; one that already answers is used instead.
    async fn start_epmd(&mut self) -> anyhow::Result<()> {
        if self.epmd.as_mut().is_some_and(|epmd| epmd.ended().is_none()) {
            return Ok(());
        }
        let epmd = Program::find(&["epmd"]).context("epmd, a part of Erlang, is not installed")?;
        let port = self.epmd_port;
        let process = epmd.start("epmd", &self.folder.join("epmd.log"), &self.folder, |command| {
            command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        })?;
        let process = self.epmd.insert(process);
        wait_for("epmd", Duration::from_secs(10), async || {
            process.must_run()?;
            TcpStream::connect(("127.0.0.1", port)).await?;
            Ok(())
        })
        .await
    }

    fn set_up(&self, command: &mut Command) {
        let file = |name: &str| self.folder.join(name);
        command
            // The node's data folder is named after it.
            .env("RABBITMQ_NODENAME", "im@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang_arguments())
            // Lets the script become Erlang instead of starting it as a child, which would outlive a killed script.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", file("data"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("HOME", file("home"));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Raises or clears the memory alarm: while it lasts, the node takes nothing from publishers.
    ///
    /// # Errors
    /// If the node cannot be told.
    pub async fn set_memory_alarm(&self, raised: bool) -> anyhow::Result<()> {
        self.control(&["set_vm_memory_high_watermark", if raised { "0.00001" } else { "0.4" }]).await
    }

    /// Closes every client's connection, and with it the queues that are exclusive to it.
    ///
    /// # Errors
    /// If the node cannot be told.
    pub async fn close_connections(&self) -> anyhow::Result<()> {
        self.control(&["close_all_connections", "a test"]).await
    }

    /// Deletes every queue that is exclusive to a connection, as their end or a failover would, and leaves the connections.
    ///
    /// # Errors
    /// If the node cannot be told.
    pub async fn delete_exclusive_queues(&self) -> anyhow::Result<()> {
        let delete = "[rabbit_amqqueue:delete(Q, false, false, <<\"a test\">>) \
                      || Q <- rabbit_amqqueue:list(<<\"/\">>), amqqueue:get_exclusive_owner(Q) =/= none].";
        self.control(&["eval", delete]).await
    }

    /// Removes the bindings of all exclusive queues: their consumers hear nothing any more, and are not told.
    ///
    /// # Errors
    /// If the node cannot be told.
    pub async fn unbind_exclusive_queues(&self) -> anyhow::Result<()> {
        // The default exchange, whose name is empty, lets nobody unbind from it.
        let unbind = "[rabbit_binding:remove(B, <<\"a test\">>) \
                      || Q <- rabbit_amqqueue:list(<<\"/\">>), amqqueue:get_exclusive_owner(Q) =/= none, \
                      B <- rabbit_binding:list_for_destination(amqqueue:get_name(Q)), \
                      element(4, element(2, B)) =/= <<>>].";
        self.control(&["eval", unbind]).await
    }

    /// Lets every work queue hold no more than so many bodies, and refuse what is published beyond (`None`: as before).
    ///
    /// # Errors
    /// If the node cannot be told.
    pub async fn bound_work_queues(&self, bodies: Option<u32>) -> anyhow::Result<()> {
        match bodies {
            Some(bodies) => {
                let policy = format!(r#"{{"max-length":{bodies},"overflow":"reject-publish"}}"#);
                self.control(&["set_policy", "bound", r"\.msg\.", &policy, "--apply-to", "queues"]).await
            }
            None => self.control(&["clear_policy", "bound"]).await,
        }
    }

    async fn control(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let program = Program::find(&["rabbitmqctl"]).context("rabbitmqctl is not installed")?;
        let mut command = program.command(&self.folder);
        self.set_up(&mut command);
        command.args(["-n", "im@localhost"]).args(arguments).stdin(std::process::Stdio::null());
        let output = tokio::process::Command::from(command).output().await?;
        anyhow::ensure!(output.status.success(), "rabbitmqctl: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The process, if it runs.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Stops it in order.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(Duration::from_secs(20)).await;
        }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }
}

/// On loopback only. Erlang's threads sleep when they have nothing to do, instead of spinning for a while first: on few
/// cores that time is others'. And there is one thread for two cores, because waking each other is most of what two do
/// at middling loads; a burst does not need the second.
fn erlang_arguments() -> String {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let schedulers = cores.div_ceil(2);
    format!(
        "-noinput -kernel inet_dist_use_interface {{127,0,0,1}} +sbwt none +sbwtdcpu none +sbwtdio none \
         +S {schedulers}:{schedulers}"
    )
}

/// Quiet, and with a disk limit that leaves the machine room to breathe.
const CONFIG: &str = "log.console.level = warning\ndisk_free_limit.absolute = 1GB\n";
