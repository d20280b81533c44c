//! Servers, gateways and workers: a whole system.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::links::{End, Links};
use super::ports::this_or_free_port;
use super::{Link, Servers, Service, Stores, Urls, free_port, operator_key};

/// What a system is made of.
#[derive(Debug, Clone)]
pub struct Builder {
    gateways: usize,
    workers: usize,
    first_port: Option<u16>,
    environment: Vec<(String, String)>,
    folder: Option<PathBuf>,
    linked: bool,
    small_disk: bool,
    previous: Option<PathBuf>,
}

impl Default for Builder {
    fn default() -> Self {
        let environment = [
            ("IM__AUTH__MODE", "insecure"),
            ("IM__GROUPS__AUTO_CREATE", "true"),
            // So that it can be tried from the console of any page.
            ("IM__LISTEN__ALLOWED_ORIGINS", "*"),
            // Secrets of tests and demos are no secrets; so that tokens can be tried too.
            ("IM__AUTH__HS256_SECRET", DEMO_SECRET),
            ("IM__AUTH__ACCOUNTS", "true"),
        ];
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self {
            gateways: 2,
            workers: 2,
            first_port: None,
            environment,
            folder: None,
            linked: false,
            small_disk: false,
            previous: None,
        }
    }
}

/// Signs the tokens of demos and tests.
pub const DEMO_SECRET: &str = "a demo's secret, known to everyone";

impl Builder {
    /// Two gateways and two workers, believing `?user_id=`, making groups at their first use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many gateways.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// How many workers.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// The first gateway listens here, if it is free, the others beside it; otherwise anywhere.
    #[must_use]
    pub fn first_port(mut self, port: u16) -> Self {
        self.first_port = Some(port);
        self
    }

    /// A setting of all processes that have it, such as `IM__COMMIT__HOLE_TIMEOUT_MS`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.environment.push((key.to_owned(), value.to_string()));
        self
    }

    /// No rate limits: for load.
    #[must_use]
    pub fn unlimited(self) -> Self {
        self.set("IM__LIMITS__USER_MESSAGES_PER_SECOND", 0)
            .set("IM__LIMITS__USER_CALLS_PER_SECOND", 0)
            .set("IM__LIMITS__ADDRESS_CALLS_PER_SECOND", 0)
    }

    /// Logs and data go here and stay. Without it: into a temporary folder, removed at the end.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// So many that each of two workers has some, whatever their names are: for tests and faults.
    #[must_use]
    pub fn many_shards(self) -> Self {
        self.set("IM__SHARDS__COUNT", 8)
    }

    /// With a [`Link`] between each two that talk to each other, for [`System::link`].
    #[must_use]
    pub fn linked(mut self) -> Self {
        self.linked = true;
        self
    }

    /// With MySQL's data on a small disk that can be filled; for servers of its own.
    #[must_use]
    pub fn small_disk(mut self) -> Self {
        self.small_disk = true;
        self
    }

    /// The first gateway and the first worker are those of another version, which are in this folder. They start first.
    #[must_use]
    pub fn previous(mut self, folder: &Path) -> Self {
        self.previous = Some(folder.to_owned());
        self
    }

    /// On servers that run already.
    ///
    /// # Errors
    /// What did not start, with the end of its log.
    pub async fn on(self, urls: Urls) -> anyhow::Result<System> {
        self.start(Backing::Given, urls, "im").await
    }

    /// On servers of its own.
    ///
    /// # Errors
    /// As [`on`](Self::on).
    pub async fn on_own_servers(self) -> anyhow::Result<System> {
        let (temporary, folder) = self.make_folder()?;
        let servers = Servers::start_on(&folder, self.small_disk).await?;
        let urls = servers.urls();
        let mut system = self.folder(&folder).start(Backing::Own(servers), urls, "im").await?;
        system.temporary = temporary;
        Ok(system)
    }

    /// On a test's stores: MySQL and RabbitMQ are shared with other tests.
    ///
    /// # Errors
    /// As [`on`](Self::on).
    pub async fn for_test(self) -> anyhow::Result<System> {
        let stores = Stores::for_test().await?;
        let urls = Urls {
            mysql: stores.mysql_url.clone(),
            redis: stores.redis_url.clone(),
            amqp: stores.amqp_url.clone(),
        };
        let prefix = stores.amqp_prefix.clone();
        self.many_shards().start(Backing::Test(stores), urls, &prefix).await
    }

    fn make_folder(&self) -> anyhow::Result<(Option<tempfile::TempDir>, PathBuf)> {
        Ok(match &self.folder {
            Some(folder) => (None, folder.clone()),
            None => {
                let temporary = tempfile::tempdir()?;
                let folder = temporary.path().to_owned();
                (Some(temporary), folder)
            }
        })
    }

    async fn start(self, backing: Backing, urls: Urls, prefix: &str) -> anyhow::Result<System> {
        let (temporary, folder) = self.make_folder()?;
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs)?;
        let operator_key = operator_key::of(&folder)?;
        let mut system = System {
            gateways: Vec::new(),
            workers: Vec::new(),
            links: Links::default(),
            urls,
            backing,
            temporary,
            builder: self,
            prefix: prefix.to_owned(),
            operator_key,
            logs,
        };
        let started = system.start_services().await;
        if let Err(error) = started {
            // The logs are worth more than a clean folder.
            let kept = system.temporary.take().map(tempfile::TempDir::keep);
            let place = kept.unwrap_or(folder);
            return Err(error.context(format!("starting the system; logs are kept in {}", place.display())));
        }
        Ok(system)
    }
}

/// The end of the setting's name that a process did not know, as it says in its log.
fn unknown_setting(error: &str) -> Option<String> {
    let field = error.rsplit_once("unknown field `")?.1.split('`').next()?;
    Some(format!("__{}", field.to_uppercase()))
}

/// Settings that a worker would refuse.
const GATEWAY_ONLY: [&str; 6] =
    ["IM__LISTEN__", "IM__AUTH__", "IM__GROUPS__", "IM__LIMITS__", "IM__TIMEOUTS__", "IM__DRAIN__SPREAD_MS"];
/// Settings that a gateway would refuse.
const WORKER_ONLY: [&str; 3] = ["IM__COMMIT__", "IM__OPS__", "IM__DRAIN__GRACE_MS"];

/// Who owns the servers.
#[derive(Debug)]
enum Backing {
    Given,
    Own(Servers),
    Test(Stores),
}

/// A running system. Everything that it started ends when it is dropped.
#[derive(Debug)]
pub struct System {
    // First, so that they end before the servers.
    gateways: Vec<Service>,
    workers: Vec<Service>,
    links: Links,
    /// Where the servers are.
    pub urls: Urls,
    backing: Backing,
    temporary: Option<tempfile::TempDir>,
    builder: Builder,
    prefix: String,
    operator_key: String,
    logs: PathBuf,
}

impl System {
    async fn start_services(&mut self) -> anyhow::Result<()> {
        if self.builder.linked {
            for n in 0..self.builder.workers {
                self.links.between(End::Worker(n), &self.urls).await?;
            }
            for n in 0..self.builder.gateways {
                self.links.between(End::Gateway(n), &self.urls).await?;
            }
        }
        // Side by side, as they would start on many machines: the migrations must bear that. Another version is there
        // already when the new one comes.
        let old = usize::from(self.builder.previous.is_some());
        let (workers, gateways) = (self.builder.workers, self.builder.gateways);
        for (workers, gateways) in
            [(0..old.min(workers), 0..old.min(gateways)), (old..workers, old..gateways)]
        {
            let (workers, gateways) = tokio::try_join!(
                futures_util::future::try_join_all(workers.map(|n| self.worker_at(n))),
                futures_util::future::try_join_all(gateways.map(|n| self.gateway_at(n)))
            )?;
            self.workers.extend(workers);
            self.gateways.extend(gateways);
        }
        if self.builder.linked {
            for (n, gateway) in self.gateways.iter().enumerate() {
                self.links.to(End::Clients, End::Gateway(n), gateway.port()).await?;
            }
        }
        Ok(())
    }

    async fn worker_at(&self, n: usize) -> anyhow::Result<Service> {
        let port = free_port()?;
        let mut environment = self.environment(End::Worker(n), &GATEWAY_ONLY);
        environment.push(("IM__OPS__ADDRESS".to_owned(), format!("127.0.0.1:{port}")));
        let log = self.logs.join(format!("worker-{n}.log"));
        self.start(n, "worker", log, port, environment).await
    }

    async fn gateway_at(&self, n: usize) -> anyhow::Result<Service> {
        let port = match self.builder.first_port {
            Some(first) => this_or_free_port(first + u16::try_from(n)?)?,
            None => free_port()?,
        };
        let mut environment = self.environment(End::Gateway(n), &WORKER_ONLY);
        // What the builder was told wins.
        environment.insert(0, ("IM__AUTH__API_KEY".to_owned(), self.operator_key.clone()));
        environment.push(("IM__LISTEN__ADDRESS".to_owned(), format!("127.0.0.1:{port}")));
        let log = self.logs.join(format!("gateway-{n}.log"));
        self.start(n, "gateway", log, port, environment).await
    }

    /// An earlier version refuses settings that it does not know: it is started without them.
    async fn start(
        &self,
        n: usize,
        name: &str,
        log: PathBuf,
        port: u16,
        mut environment: Vec<(String, String)>,
    ) -> anyhow::Result<Service> {
        let program = self.program(name, n)?;
        let earlier = n == 0 && self.builder.previous.is_some();
        loop {
            let (program, log) = (program.clone(), log.clone());
            let started =
                Service::start(format!("{name} {n}"), program, log, port, environment.clone()).await;
            let unknown = started.as_ref().err().and_then(|error| unknown_setting(&format!("{error:#}")));
            let count = environment.len();
            environment.retain(|(key, _)| !unknown.as_ref().is_some_and(|unknown| key.ends_with(unknown)));
            if !earlier || environment.len() == count {
                return started;
            }
        }
    }

    fn program(&self, name: &str, n: usize) -> anyhow::Result<PathBuf> {
        match &self.builder.previous {
            Some(folder) if n == 0 => Ok(folder.join(name)),
            _ => program(name),
        }
    }

    fn environment(&self, of: End, without: &[&str]) -> Vec<(String, String)> {
        let urls = self.links.urls(of, &self.urls);
        let own = [
            ("IM__MYSQL__URL", &urls.mysql),
            ("IM__REDIS__URL", &urls.redis),
            ("IM__AMQP__URL", &urls.amqp),
            ("IM__AMQP__PREFIX", &self.prefix),
        ];
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.clone()));
        let set =
            self.builder.environment.iter().filter(|(key, _)| !without.iter().any(|w| key.starts_with(w)));
        own.chain(set.cloned()).collect()
    }

    /// The gateway with this number.
    pub fn gateway(&mut self, n: usize) -> &mut Service {
        &mut self.gateways[n]
    }

    /// The worker with this number.
    pub fn worker(&mut self, n: usize) -> &mut Service {
        &mut self.workers[n]
    }

    /// Those that run another version are stopped in order, one by one, and started again as this one.
    ///
    /// # Errors
    /// If one has to be killed, or does not start.
    pub async fn change_version(&mut self) -> anyhow::Result<()> {
        let (gateway, worker) = (program("gateway")?, program("worker")?);
        for (service, program) in [(&mut self.workers[0], worker), (&mut self.gateways[0], gateway)] {
            service.terminate().await.context("it had to be killed")?;
            service.replace(program);
            service.start_again().await?;
        }
        Ok(())
    }

    /// How many gateways there are.
    #[must_use]
    pub fn gateway_count(&self) -> usize {
        self.gateways.len()
    }

    /// How many workers there are.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn add_worker(&mut self) -> anyhow::Result<()> {
        let n = self.workers.len();
        if self.builder.linked {
            self.links.between(End::Worker(n), &self.urls).await?;
        }
        let worker = self.worker_at(n).await?;
        self.workers.push(worker);
        Ok(())
    }

    /// Where clients connect, gateway by gateway: through the link, if there is one.
    #[must_use]
    pub fn ws_urls(&self) -> Vec<String> {
        let url = |(n, gateway): (usize, &Service)| match self.link(End::Clients, End::Gateway(n)) {
            Some(link) => format!("ws://127.0.0.1:{}/ws", link.port()),
            None => gateway.ws_url(),
        };
        self.gateways.iter().enumerate().map(url).collect()
    }

    /// The link over which `from` connects to `to`, if the system was [linked](Builder::linked).
    #[must_use]
    pub fn link(&self, from: End, to: End) -> Option<&Link> {
        self.links.get(from, to)
    }

    /// All gateways and workers.
    pub fn services(&mut self) -> impl Iterator<Item = &mut Service> {
        self.gateways.iter_mut().chain(&mut self.workers)
    }

    /// The servers, if they are its own.
    pub fn servers(&mut self) -> Option<&mut Servers> {
        match &mut self.backing {
            Backing::Own(servers) => Some(servers),
            Backing::Given | Backing::Test(_) => None,
        }
    }

    /// The Redis, if it is its own or the test's.
    pub fn redis(&mut self) -> Option<&mut super::RedisServer> {
        match &mut self.backing {
            Backing::Own(servers) => Some(&mut servers.redis),
            Backing::Test(stores) => Some(&mut stores.redis),
            Backing::Given => None,
        }
    }

    /// What begins the names of exchanges and queues.
    #[must_use]
    pub fn amqp_prefix(&self) -> &str {
        &self.prefix
    }

    /// Where HTTP calls go, gateway by gateway.
    #[must_use]
    pub fn http_urls(&self) -> Vec<String> {
        self.gateways.iter().map(Service::http_url).collect()
    }

    /// The operator's key, to be sent as `X-Api-Key`.
    #[must_use]
    pub fn operator_key(&self) -> &str {
        &self.operator_key
    }

    /// Where the logs are.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Keeps the logs although the folder is a temporary one.
    pub fn keep_logs(&mut self) {
        if let Some(folder) = self.temporary.take() {
            eprintln!("logs are kept in {}", folder.keep().display());
        }
    }

    /// Stops everything in order: gateways, workers, then the servers.
    pub async fn stop(mut self) {
        let gateways = futures_util::future::join_all(self.gateways.iter_mut().map(Service::terminate));
        gateways.await;
        futures_util::future::join_all(self.workers.iter_mut().map(Service::terminate)).await;
        if let Backing::Own(servers) = &mut self.backing {
            servers.stop().await;
        }
    }
}

/// The file of `gateway` or `worker`: beside this program, or where `IM_BIN_DIR` says.
///
/// # Errors
/// If it is not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("IM_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe()?;
            let folder = own.parent().context("this program has no folder")?;
            // Test programs are one folder further down.
            if folder.ends_with("deps") {
                folder.parent().unwrap_or(folder).to_owned()
            } else {
                folder.to_owned()
            }
        }
    };
    let program = folder.join(name);
    anyhow::ensure!(program.is_file(), "{} is not built: cargo build --bins", program.display());
    Ok(program)
}
