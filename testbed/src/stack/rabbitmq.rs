//! A private RabbitMQ.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use lapin::{Connection, ConnectionProperties};

use super::engines::Program;
use super::process::Process;
use super::{ServerTls, epmd, free_port, rabbitmq_cluster, wait_for};

/// The name of a node alone, and of the first node of a cluster.
const NODE: &str = "im@localhost";
/// The address of the host in the node's name, for machines without `/etc/hosts`.
const INETRC: &str = "{host, {127,0,0,1}, [\"localhost\"]}.\n{lookup, [file, native]}.\n";
/// A node needs seconds, and minutes on a machine that is busy otherwise.
const START_TIMEOUT: Duration = Duration::from_secs(240);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A node with its data in a folder of its own, and an epmd (Erlang's port mapper).
#[derive(Debug)]
pub struct RabbitServer {
    // Declared before its port mapper, so that it ends first.
    process: Option<Process>,
    epmd: Option<Process>,
    name: String,
    folder: PathBuf,
    /// Has the cookie that lets nodes and tools talk to each other.
    home: PathBuf,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    management_port: Option<u16>,
    tls_port: Option<u16>,
}

impl RabbitServer {
    /// Starts it on the data in `folder`, or on new data, and waits until it answers.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, None, None).await
    }

    /// As [`start`](Self::start), with the management API, which takes some seconds longer.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with_management(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, Some(free_port()?), None).await
    }

    /// As [`start`](Self::start), with TLS at a second port.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with_tls(folder: &Path, tls: ServerTls) -> anyhow::Result<Self> {
        Self::start_with(folder, None, Some(tls)).await
    }

    async fn start_with(
        folder: &Path,
        management_port: Option<u16>,
        tls: Option<ServerTls>,
    ) -> anyhow::Result<Self> {
        let tls_port = tls.as_ref().map(|_| free_port()).transpose()?;
        let tls = tls.zip(tls_port).map(|(tls, port)| tls.rabbitmq_config(port)).unwrap_or_default();
        let (plugins, management) = match management_port {
            Some(port) => {
                let management = format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n");
                ("[rabbitmq_management].\n", management)
            }
            None => ("[].\n", String::new()),
        };
        let folder = std::path::absolute(folder)?;
        let mut server = Self {
            process: None,
            epmd: None,
            name: NODE.to_owned(),
            home: folder.join("home"),
            folder,
            port: free_port()?,
            dist_port: free_port()?,
            epmd_port: free_port()?,
            management_port,
            tls_port,
        };
        std::fs::create_dir_all(&server.home)?;
        server.write_files(plugins, &format!("{management}{tls}"))?;
        server.start_again().await?;
        Ok(server)
    }

    /// One of `count` nodes of a cluster, with its port mapper, and not started yet: the nodes find each other by their port
    /// mappers. `number` is 1 for the first node; `home` is its folder.
    pub(super) async fn prepare_node(
        folder: &Path,
        home: &Path,
        number: usize,
        count: usize,
    ) -> anyhow::Result<Self> {
        let (folder, home) = (std::path::absolute(folder)?, std::path::absolute(home)?.join("home"));
        std::fs::create_dir_all(&folder)?;
        std::fs::create_dir_all(&home)?;
        let mut node = Self {
            process: None,
            epmd: None,
            name: node_name(number),
            home,
            folder,
            port: free_port()?,
            dist_port: free_port()?,
            epmd_port: free_port()?,
            management_port: None,
            tls_port: None,
        };
        let mut configuration = rabbitmq_cluster::CONFIGURATION.to_owned();
        for number in 1..=count {
            let written = format!("rabbit@mq{number}\n");
            anyhow::ensure!(configuration.contains(&written), "rabbitmq.conf has no node {number}");
            configuration = configuration.replace(&written, &format!("{}\n", node_name(number)));
        }
        node.write_files("[].\n", &configuration)?;
        node.start_epmd().await?;
        Ok(node)
    }

    fn write_files(&self, plugins: &str, configuration: &str) -> anyhow::Result<()> {
        let write = |name: &str, text: &str| std::fs::write(self.folder.join(name), text);
        write("enabled_plugins", plugins)?;
        write("rabbitmq.conf", &format!("{CONFIG}{configuration}"))?;
        Ok(write("inetrc", INETRC)?)
    }

    /// Starts it again on the same port after [`kill`](Self::kill), and its port mapper if that has ended.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.start_epmd().await?;
        if self.process.as_mut().is_some_and(|process| process.ended().is_none()) {
            return Ok(());
        }
        // Not the wrapper on the PATH, which insists on the user that the package created.
        let program = Program::find(&["rabbitmq-server"]).context("rabbitmq-server is not installed")?;
        let process =
            program.start("RabbitMQ", &self.folder.join("server.log"), &self.folder, |command| {
                self.set_up(command);
            })?;
        let process = self.process.insert(process);
        let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port);
        wait_for("RabbitMQ", START_TIMEOUT, async || {
            process.must_run()?;
            check(&url).await
        })
        .await
    }

    /// Whether it takes connections.
    ///
    /// # Errors
    /// If not.
    pub async fn ready(&self) -> anyhow::Result<()> {
        check(&self.url()).await
    }

    /// Erlang would start its port mapper as a daemon, which nothing stops; it uses one that already answers.
    async fn start_epmd(&mut self) -> anyhow::Result<()> {
        if self.epmd.as_mut().is_none_or(|epmd| epmd.ended().is_some()) {
            self.epmd = Some(epmd::start(&self.folder, self.epmd_port).await?);
        }
        Ok(())
    }

    fn set_up(&self, command: &mut Command) {
        let file = |name: &str| self.folder.join(name);
        command
            // The node's data folder is named after it.
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_INETRC", file("inetrc"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang_arguments())
            // Lets the script execute Erlang instead of starting it as a child, which would survive a killed script.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", file("data"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("HOME", &self.home);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Raises or clears the memory alarm, which blocks publishers.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub async fn set_memory_alarm(&self, raised: bool) -> anyhow::Result<()> {
        self.control(&["set_vm_memory_high_watermark", if raised { "0.00001" } else { "0.4" }])
            .await
            .map(drop)
    }

    /// Closes every client's connection, which deletes the queues that are exclusive to it.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub async fn close_connections(&self) -> anyhow::Result<()> {
        self.control(&["close_all_connections", "a test"]).await.map(drop)
    }

    /// Deletes every exclusive queue, as a failover would, and leaves the connections open.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub async fn delete_exclusive_queues(&self) -> anyhow::Result<()> {
        let delete = "[rabbit_amqqueue:delete(Q, false, false, <<\"a test\">>) \
                      || Q <- rabbit_amqqueue:list(<<\"/\">>), amqqueue:get_exclusive_owner(Q) =/= none].";
        self.control(&["eval", delete]).await.map(drop)
    }

    /// Removes the bindings of all exclusive queues: their consumers receive nothing more, and no notification.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub async fn unbind_exclusive_queues(&self) -> anyhow::Result<()> {
        // Nothing can be unbound from the default exchange, whose name is empty.
        let unbind = "[rabbit_binding:remove(B, <<\"a test\">>) \
                      || Q <- rabbit_amqqueue:list(<<\"/\">>), amqqueue:get_exclusive_owner(Q) =/= none, \
                      B <- rabbit_binding:list_for_destination(amqqueue:get_name(Q)), \
                      element(4, element(2, B)) =/= <<>>].";
        self.control(&["eval", unbind]).await.map(drop)
    }

    /// Limits every work queue to `bodies`, beyond which it refuses publishes; `None` removes the limit.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub async fn limit_work_queues(&self, bodies: Option<u32>) -> anyhow::Result<()> {
        match bodies {
            Some(bodies) => {
                let policy = format!(r#"{{"max-length":{bodies},"overflow":"reject-publish"}}"#);
                self.set_policy("limit", r"\.msg\.", &policy).await
            }
            None => self.clear_policy("limit").await,
        }
    }

    /// Gives all queues whose names match `pattern` a policy, whose definition is a JSON object.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub async fn set_policy(&self, name: &str, pattern: &str, definition: &str) -> anyhow::Result<()> {
        self.control(&["set_policy", name, pattern, definition, "--apply-to", "queues"]).await.map(drop)
    }

    /// Removes a policy.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub async fn clear_policy(&self, name: &str) -> anyhow::Result<()> {
        self.control(&["clear_policy", name]).await.map(drop)
    }

    /// For each work queue, the node that leads it.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub async fn leaders_of_work_queues(&self) -> anyhow::Result<Vec<String>> {
        let listed =
            self.control(&["list_queues", "--quiet", "--no-table-headers", "name", "leader"]).await?;
        let queues = listed.lines().filter_map(|line| line.split_once('\t'));
        let work_queues = queues.filter(|(queue, _)| queue.contains(".msg."));
        Ok(work_queues.map(|(_, leader)| leader.trim().to_owned()).collect())
    }

    /// The name of this node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same without the host.
    pub(super) fn short_name(&self) -> &str {
        self.name.split('@').next().unwrap_or_default()
    }

    /// Where other nodes connect to it.
    pub(super) fn dist_port(&self) -> u16 {
        self.dist_port
    }

    pub(super) fn epmd_port(&self) -> u16 {
        self.epmd_port
    }

    /// Calls `rabbitmqctl`, and returns what it prints.
    async fn control(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let program = Program::find(&["rabbitmqctl"]).context("rabbitmqctl is not installed")?;
        let mut command = program.command(&self.folder);
        self.set_up(&mut command);
        command.args(["-n", &self.name]).args(arguments).stdin(std::process::Stdio::null());
        let output = tokio::process::Command::from(command).output().await?;
        anyhow::ensure!(output.status.success(), "rabbitmqctl: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The node's process, unless it was killed or stopped.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// The processes of the node and of its port mapper.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.process.iter().chain(&self.epmd)
    }

    /// The same.
    pub(super) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.process.iter_mut().chain(&mut self.epmd)
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_TIMEOUT).await;
        }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Its address with TLS.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        self.tls_port.map(|port| format!("amqps://guest:guest@127.0.0.1:{port}/%2f"))
    }

    /// The address of its management API, if it has one.
    #[must_use]
    pub fn management_url(&self) -> Option<String> {
        self.management_port.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// A command line that lists its queues; `None` if its tools are not installed on this machine.
    #[must_use]
    pub fn client_command(&self) -> Option<String> {
        let tool = Program::find(&["rabbitmqctl"]).filter(|tool| !tool.is_inside())?;
        let (port, home, tool, node) =
            (self.epmd_port, self.home.display(), tool.path().display(), &self.name);
        Some(format!("ERL_EPMD_PORT={port} HOME={home} {tool} -n {node} list_queues name messages"))
    }
}

async fn check(url: &str) -> anyhow::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    Ok(connection.close(200, "ready".into()).await?)
}

fn node_name(number: usize) -> String {
    if number == 1 { NODE.to_owned() } else { format!("im-{number}@localhost") }
}

/// On loopback only. Erlang's threads do not spin before they sleep: on few cores other processes need that time. There is
/// one thread for two cores, because at medium loads two spend most of their time waking each other; a burst does not need
/// the second.
fn erlang_arguments() -> String {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let schedulers = cores.div_ceil(2);
    format!(
        "-noinput -kernel inet_dist_use_interface {{127,0,0,1}} +sbwt none +sbwtdcpu none +sbwtdio none \
         +S {schedulers}:{schedulers}"
    )
}

/// Logs warnings only, and refuses publishes before the disk is full.
const CONFIG: &str = "log.console.level = warning\ndisk_free_limit.absolute = 1GB\n";
