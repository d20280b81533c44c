//! A private MariaDB or MySQL.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use super::engines::Program;
use super::galera::{self, GaleraNode};
use super::process::Process;
use super::{ServerTls, free_port, programs, wait_for};

const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The reason stands before the installer's general advice of some thirty lines.
const INSTALLER_LINES: usize = 60;
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const GALERA_FILE: &str = "galera.cnf";

/// A server with its data in a folder of its own, with full durability.
#[derive(Debug)]
pub struct MysqlServer {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    small_disk: bool,
    tls: Option<Box<ServerTls>>,
    /// Of a node of a cluster.
    galera: Option<GaleraNode>,
}

/// Size of a small disk: for the logs and tables of an empty server, and some messages.
const SMALL_DISK: &str = "size=640m";
/// Mounts a disk in memory at `$1`, in this namespace only, copies `$2` to it, and executes the server.
const ON_SMALL_DISK: &str = r#"mount -t tmpfs -o "$0" im "$1" && cp -a "$2/." "$1/" && shift 2 && exec "$@""#;

impl MysqlServer {
    /// Starts it on the data in `folder`, or on new data, and waits until it answers.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(folder, false, None, None).await
    }

    /// Starts a node of a MariaDB Galera cluster, and waits until it has all transactions.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) async fn start_galera_node(folder: &Path, node: GaleraNode) -> anyhow::Result<Self> {
        Self::start_on(folder, false, None, Some(node)).await
    }

    /// As [`start`](Self::start), with its data on a small disk of its own, which ends with the process. Needs root.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_on_small_disk(folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(folder, true, None, None).await
    }

    /// As [`start`](Self::start), with TLS for clients that ask for it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with_tls(folder: &Path, tls: ServerTls) -> anyhow::Result<Self> {
        Self::start_on(folder, false, Some(Box::new(tls)), None).await
    }

    async fn start_on(
        folder: &Path,
        small_disk: bool,
        tls: Option<Box<ServerTls>>,
        galera: Option<GaleraNode>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (folder, port) = (folder.to_owned(), free_port()?);
        let mut server = Self { process: None, folder, port, small_disk, tls, galera };
        server.start_again().await?;
        if let Some(node) = &mut server.galera {
            // From now on there is a cluster to join.
            node.is_first = false;
        }
        Ok(server)
    }

    /// Starts it again on the same port after [`kill`](Self::kill).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let program = Program::find(&["mariadbd", "mysqld"]);
        let program = program.context("neither mariadbd nor mysqld is installed")?;
        let is_mysql = program.path().ends_with("mysqld");
        let data = self.folder.join("data");
        let temporary = self.folder.join("tmp");
        std::fs::create_dir_all(&temporary)?;
        if !data.join("mysql").is_dir() {
            // Renamed when it is complete: an interrupted installation must not be taken for a finished one.
            let unfinished = self.folder.join("data.unfinished");
            if unfinished.exists() {
                std::fs::remove_dir_all(&unfinished)?;
            }
            initialize(is_mysql, &unfinished, &temporary, &self.folder).await?;
            std::fs::rename(&unfinished, &data)?;
        }
        if self.galera.is_some() {
            anyhow::ensure!(!is_mysql, "Galera needs MariaDB");
            std::fs::write(self.folder.join(GALERA_FILE), galera::configuration())?;
        }
        let disk = self.folder.join("small");
        let (start, data) = if self.small_disk {
            anyhow::ensure!(!program.is_inside(), "a small disk works with this machine's own servers only");
            std::fs::create_dir_all(&disk)?;
            (Program::find(&["unshare"]).context("unshare is not installed")?, disk)
        } else {
            (program.clone(), data)
        };
        let process = start.start("MySQL", &self.folder.join("server.log"), &self.folder, |command| {
            if self.small_disk {
                command.args(["--mount", "sh", "-c", ON_SMALL_DISK, SMALL_DISK]);
                command.arg(&data).arg(self.folder.join("data")).arg(program.path());
            }
            match &self.galera {
                // Must be the first argument.
                Some(_) => {
                    command.arg(format!("--defaults-file={}", self.folder.join(GALERA_FILE).display()))
                }
                None => command.arg("--no-defaults"),
            };
            common(command, &data, &temporary);
            let file = |name: &str| self.folder.join(name).display().to_string();
            command
                .arg(format!("--port={}", self.port))
                .arg("--bind-address=127.0.0.1")
                .arg(format!("--socket={}", file("mysql.sock")))
                .arg(format!("--pid-file={}", file("mysql.pid")))
                .arg("--innodb-flush-log-at-trx-commit=1");
            if self.galera.is_none() {
                command.args(["--innodb-buffer-pool-size=512M", "--max-connections=500"]);
            }
            if let Some(tls) = &self.tls {
                let names = ["--ssl-ca", "--ssl-cert", "--ssl-key"];
                command.args(tls.named(names).map(|(name, file)| format!("{name}={file}")));
            }
            if is_mysql {
                // Its root is root@localhost, which it finds by name only.
                command.args(["--innodb-redo-log-capacity=256M", "--mysqlx=OFF", "--secure-file-priv="]);
            } else {
                command.args(["--skip-name-resolve", "--innodb-log-file-size=256M"]);
            }
            if let Some(node) = &self.galera {
                node.set_up(command);
            }
        })?;
        let process = self.process.insert(process);
        let url = format!("mysql://root@127.0.0.1:{}", self.port);
        wait_for("MySQL", START_TIMEOUT, async || {
            process.must_run()?;
            let mut connection = connect(&url).await?;
            if self.galera.is_some() {
                galera::must_be_synced(&mut connection).await?;
            }
            Ok(connection.close().await?)
        })
        .await
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The process, unless it was killed or stopped.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// The path of the small disk outside its namespace.
    #[must_use]
    pub fn small_disk(&self) -> Option<PathBuf> {
        let process = self.process.as_ref().filter(|_| self.small_disk)?;
        let inside = self.folder.join("small");
        Some(PathBuf::from(format!("/proc/{}/root{}", process.id(), inside.display())))
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_TIMEOUT).await;
        }
    }

    /// Runs one statement as root.
    ///
    /// # Errors
    /// The server's.
    pub async fn execute(&self, statement: &str) -> anyhow::Result<()> {
        execute(&self.url(), statement.to_owned()).await
    }

    /// The number of nodes of its cluster that it sees.
    ///
    /// # Errors
    /// The server's.
    pub async fn cluster_size(&self) -> anyhow::Result<u32> {
        galera::cluster_size(&mut connect(&self.url()).await?).await
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of the server, without a schema.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}", self.port)
    }

    /// A command line that opens `schema` in a client.
    #[must_use]
    pub fn client_command(&self, schema: &str) -> String {
        let client = if programs::find("mysql").is_none() { "mariadb" } else { "mysql" };
        format!("{client} --host=127.0.0.1 --port={} --user=root {schema}", self.port)
    }
}

fn common(command: &mut Command, data: &Path, temporary: &Path) {
    command.arg(format!("--datadir={}", data.display()));
    // A MariaDB that starts deletes the temporary tables of every other one that uses the same folder.
    command.arg(format!("--tmpdir={}", temporary.display()));
    if nix::unistd::geteuid().is_root() {
        command.arg("--user=root");
    }
}

async fn initialize(is_mysql: bool, data: &Path, temporary: &Path, folder: &Path) -> anyhow::Result<()> {
    let installer = Program::find(&[if is_mysql { "mysqld" } else { "mariadb-install-db" }]);
    let installer = installer.context("mariadb-install-db is not installed")?;
    let log = folder.join("install.log");
    let mut process = installer.start("MySQL's installer", &log, folder, |command| {
        command.arg("--no-defaults");
        common(command, data, temporary);
        // Several installers at once exceed the kernel's limit of asynchronous requests.
        command.arg("--innodb-use-native-aio=0");
        if is_mysql {
            command.arg("--initialize-insecure");
        } else {
            // `--force`: on a machine without /etc/hosts the installer cannot look up its own name, which it needs only
            // for grants that nobody uses.
            command.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--force"]);
        }
    })?;
    wait_for("MySQL's installer", INSTALL_TIMEOUT, async || {
        anyhow::ensure!(process.ended().is_some(), "it still runs");
        Ok(())
    })
    .await?;
    let succeeded = process.ended().is_some_and(|ended| ended.success());
    anyhow::ensure!(
        succeeded && data.join("mysql").is_dir(),
        "MySQL's installer failed:\n{}",
        process.tail(INSTALLER_LINES)
    );
    Ok(())
}

async fn connect(url: &str) -> anyhow::Result<sqlx::MySqlConnection> {
    let options: sqlx::mysql::MySqlConnectOptions = url.parse()?;
    Ok(options.disable_statement_logging().connect().await?)
}

/// Runs one statement on the server at `url`.
pub(super) async fn execute(url: &str, statement: String) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(connection.close().await?)
}

/// The port that the server at `url` listens on, which may be another one than that of a balancer in front of it.
pub(super) async fn port_of_server(url: &str) -> anyhow::Result<u16> {
    let mut connection = connect(url).await?;
    let port: u64 = sqlx::query_scalar("SELECT CAST(@@port AS UNSIGNED)").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(u16::try_from(port)?)
}

/// Drops a schema and ends the connections that use it: a failed test leaves transactions open, and a plain drop would wait
/// for them.
pub(super) async fn drop_schema(url: &str, schema: &str) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    let users: Vec<u64> =
        sqlx::query_scalar("SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE db = ?")
            .bind(schema)
            .fetch_all(&mut connection)
            .await?;
    for id in users {
        // It may have ended by now.
        let _ = connection.execute(AssertSqlSafe(format!("KILL {id}"))).await;
    }
    connection.execute(AssertSqlSafe(format!("DROP DATABASE {schema}"))).await?;
    Ok(connection.close().await?)
}

#[cfg(test)]
mod tests {
    use super::MysqlServer;

    #[tokio::test]
    async fn a_start_deletes_no_temporary_tables_of_other_servers() {
        let table = std::env::temp_dir().join(format!("#sql-temptable-{}-1-1.MAI", std::process::id()));
        std::fs::write(&table, "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = MysqlServer::start(folder.path()).await;
        let survived = std::fs::remove_file(&table).is_ok();
        server.unwrap();
        assert!(survived, "{} was deleted", table.display());
    }
}
