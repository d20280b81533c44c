//! What a system consists of, and how it is started.

use std::path::{Path, PathBuf};

use super::links::Links;
use super::plan::{OtherBuild, Plan};
use super::servers::{MysqlKind, RedisKind, ServerPlan, timed};
use super::system::{Backing, System};
use super::{Servers, Stores, TemporaryFolder, Urls, operator_key};
use crate::client::conformance;

/// Signs the tokens of demos and tests.
pub const DEMO_SECRET: &str = "a demo's secret, known to everyone";

/// Signs the notifications of tests.
const DEMO_VAPID_KEY: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";

/// Describes a system, and starts it.
#[derive(Debug, Clone)]
pub struct Builder {
    plan: Plan,
    folder: Option<PathBuf>,
    servers: ServerPlan,
}

impl Default for Builder {
    fn default() -> Self {
        let environment = [
            ("IM__AUTH__MODE", "insecure"),
            ("IM__GROUPS__AUTO_CREATE", "true"),
            // A demo can be tried from the console of any page.
            ("IM__LISTEN__ALLOWED_ORIGINS", "*"),
            // A well-known secret, so that tokens can be tried too.
            ("IM__AUTH__HS256_SECRET", DEMO_SECRET),
            ("IM__AUTH__ACCOUNTS", "true"),
        ];
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let plan =
            Plan { gateways: 2, workers: 2, ports: Vec::new(), environment, linked: false, other: None };
        Self { plan, folder: None, servers: ServerPlan::default() }
    }
}

impl Builder {
    /// Two gateways and two workers, which trust `?user_id=` and create groups at their first use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of gateways.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.plan.gateways = count;
        self
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.plan.workers = count;
        self
    }

    /// The ports of the first gateways; all others listen on any free port.
    #[must_use]
    pub fn ports(mut self, ports: Vec<u16>) -> Self {
        self.plan.ports = ports;
        self
    }

    /// A setting such as `IM__COMMIT__HOLE_TIMEOUT_MS`, for the processes that have it. Replaces an earlier value.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.plan.environment.retain(|(known, _)| known != key);
        self.plan.environment.push((key.to_owned(), value.to_string()));
        self
    }

    /// As [`set`](Self::set), unless the setting has a value already.
    #[must_use]
    fn set_default(self, key: &str, value: impl ToString) -> Self {
        if self.plan.environment.iter().any(|(known, _)| known == key) { self } else { self.set(key, value) }
    }

    /// No rate limits: for load.
    #[must_use]
    pub fn unlimited(self) -> Self {
        self.set("IM__LIMITS__USER_MESSAGES_PER_SECOND", 0)
            .set("IM__LIMITS__USER_CALLS_PER_SECOND", 0)
            .set("IM__LIMITS__ADDRESS_CALLS_PER_SECOND", 0)
            .set("IM__LIMITS__USER_COST_PER_SECOND", 0)
            .set("IM__GROUPS__PER_USER_MAX", 0)
            .set("IM__GROUPS__MADE_PER_DAY", 0)
            .set("IM__GROUPS__MEMBERS_ADDED_PER_DAY", 0)
            .set("IM__FILES__USER_UPLOADS_PER_DAY", 0)
            .set("IM__FILES__USER_BYTES_PER_DAY", 0)
    }

    /// With the change feed.
    #[must_use]
    pub fn feed(self) -> Self {
        self.set("IM__FEED__ENABLED", true)
    }

    /// With notifications by Web Push, to push services on this machine too. Needs the [change feed](Self::feed).
    #[must_use]
    pub fn notifications(self) -> Self {
        self.set("IM__PUSH__ENABLED", true)
            .set("IM__PUSH__VAPID_KEYS", DEMO_VAPID_KEY)
            .set("IM__PUSH__VAPID_SUBJECT", "mailto:push@example.com")
            .set("IM__OUTGOING__ALLOWED_NETWORKS", "127.0.0.0/8")
    }

    /// With the change feed, and with webhooks to endpoints of this machine.
    #[must_use]
    pub fn webhooks(self) -> Self {
        self.feed().set("IM__OUTGOING__ALLOWED_NETWORKS", "127.0.0.0/8")
    }

    /// The folder of logs and data, which stays. Without it: a temporary folder, removed at the end.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Eight shards, unless the number is set: enough for each of two workers to own some, whatever their ids are.
    #[must_use]
    pub fn many_shards(self) -> Self {
        self.set_default("IM__SHARDS__COUNT", 8)
    }

    /// With a [`Link`](super::Link) between each two parts that communicate, for [`System::link`].
    #[must_use]
    pub fn linked(mut self) -> Self {
        self.plan.linked = true;
        self
    }

    /// With MySQL's data on a small disk that can be filled. For private servers.
    #[must_use]
    pub fn small_disk(mut self) -> Self {
        self.servers.mysql = MysqlKind::SmallDisk;
        self
    }

    /// How MySQL is run. For private servers.
    #[must_use]
    pub fn mysql(mut self, kind: MysqlKind) -> Self {
        self.servers.mysql = kind;
        self
    }

    /// How Redis is run. There are no [links](Self::linked) to several servers. For private servers.
    #[must_use]
    pub fn redis(mut self, kind: RedisKind) -> Self {
        self.servers.redis = kind;
        self
    }

    /// With a cluster of `count` nodes of RabbitMQ, to which there are no [links](Self::linked). For private servers.
    #[must_use]
    pub fn rabbit_nodes(mut self, count: usize) -> Self {
        self.servers.rabbit_nodes = count;
        self
    }

    /// The first gateway and the first worker are another version's, from `folder`. They start first.
    #[must_use]
    pub fn previous(mut self, folder: &Path) -> Self {
        self.plan.other = Some(OtherBuild { folder: folder.to_owned(), is_all: false });
        self
    }

    /// All gateways and workers are another build's, from `folder`. It may be an earlier version: settings that it does not
    /// know are left out.
    #[must_use]
    pub fn build_in(mut self, folder: &Path) -> Self {
        self.plan.other = Some(OtherBuild { folder: folder.to_owned(), is_all: true });
        self
    }

    /// Calls `report` with one line for each phase of the start, with the seconds that it took.
    #[must_use]
    pub fn progress(mut self, report: fn(String)) -> Self {
        self.servers.progress = report;
        self
    }

    /// Starts it on running servers.
    ///
    /// # Errors
    /// The first process that does not start, with the end of its log.
    pub async fn on(self, urls: Urls) -> anyhow::Result<System> {
        Box::pin(self.start(Backing::Given, urls, "im")).await
    }

    /// Starts it on private servers.
    ///
    /// # Errors
    /// As [`on`](Self::on).
    pub async fn on_own_servers(self) -> anyhow::Result<System> {
        let (temporary, folder) = self.make_folder()?;
        let servers = Box::pin(Servers::start_as(&folder, &self.servers)).await?;
        let urls = servers.urls();
        let start = self.folder(&folder).start(Backing::Own(Box::new(servers)), urls, "im");
        let mut system = Box::pin(start).await?;
        system.temporary = temporary;
        Ok(system)
    }

    /// Starts it on a test's stores, with [`many_shards`](Self::many_shards). Tests share MySQL and RabbitMQ. What clients
    /// receive is checked against `docs/api`, unless a process is an earlier version's.
    ///
    /// # Errors
    /// As [`on`](Self::on).
    pub async fn for_test(self) -> anyhow::Result<System> {
        if self.plan.other.is_none() {
            conformance::enable();
        }
        let stores = Stores::for_test().await?;
        let urls = Urls {
            mysql: stores.mysql_url.clone(),
            redis: stores.redis_url.clone(),
            amqp: stores.amqp_url.clone(),
        };
        let prefix = stores.amqp_prefix.clone();
        // Most tests are easier to read if the first message of a group has the number 1.
        let test = self.many_shards().set_default("IM__GROUPS__SYSTEM_MESSAGES", false);
        Box::pin(test.start(Backing::Test(Box::new(stores)), urls, &prefix)).await
    }

    fn make_folder(&self) -> anyhow::Result<(Option<TemporaryFolder>, PathBuf)> {
        Ok(match &self.folder {
            Some(folder) => (None, folder.clone()),
            None => {
                let temporary = TemporaryFolder::new()?;
                let folder = temporary.path().to_owned();
                (Some(temporary), folder)
            }
        })
    }

    async fn start(self, backing: Backing, urls: Urls, prefix: &str) -> anyhow::Result<System> {
        let (temporary, folder) = self.make_folder()?;
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs)?;
        let operator_key = operator_key::load_or_create(&folder)?;
        let progress = self.servers.progress;
        let mut system = System {
            gateways: Vec::new(),
            workers: Vec::new(),
            links: Links::default(),
            urls,
            backing,
            temporary,
            plan: self.plan,
            prefix: prefix.to_owned(),
            operator_key,
            logs,
        };
        if let Err(error) = timed("gateways and workers", progress, system.start_services()).await {
            // The logs may show the cause.
            let kept = system.temporary.take().map(TemporaryFolder::keep).unwrap_or(folder);
            return Err(error.context(format!("starting the system; logs are kept in {}", kept.display())));
        }
        Ok(system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_setting_holds_and_defaults_replace_none() {
        const SHARDS: &str = "IM__SHARDS__COUNT";
        let shards = |builder: Builder| -> Vec<String> {
            let all = builder.plan.environment.into_iter();
            all.filter(|(key, _)| key == SHARDS).map(|(_, value)| value).collect()
        };
        assert_eq!(shards(Builder::new().many_shards()), ["8"]);
        assert_eq!(shards(Builder::new().set(SHARDS, 2).set(SHARDS, 3).many_shards()), ["3"]);
        assert_eq!(shards(Builder::new().many_shards().set(SHARDS, 1)), ["1"]);
    }
}
