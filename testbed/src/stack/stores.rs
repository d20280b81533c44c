//! Stores for one test: an own schema, Redis and queue names.

use std::sync::{Arc, Weak};

use anyhow::Context as _;
use tokio::sync::Mutex;

use super::{MysqlServer, RabbitServer, RedisServer, TemporaryFolder};

/// Set by `loadtest stack exec`: the address of MySQL, without a schema.
pub const MYSQL_ENV: &str = "IM_TEST_MYSQL_URL";
/// Set by `loadtest stack exec`: the address of RabbitMQ.
pub const AMQP_ENV: &str = "IM_TEST_AMQP_URL";

/// MySQL and RabbitMQ, which take seconds to start. The tests of a run share them.
#[derive(Debug)]
enum Shared {
    Given { mysql: String, amqp: String },
    Own { mysql: MysqlServer, rabbit: Box<RabbitServer>, _folder: TemporaryFolder },
}

impl Shared {
    async fn get() -> anyhow::Result<Arc<Self>> {
        // Weak, because statics are never dropped: the last test that uses the servers stops them.
        static IN_USE: Mutex<Weak<Shared>> = Mutex::const_new(Weak::new());
        let mut in_use = IN_USE.lock().await;
        if let Some(shared) = in_use.upgrade() {
            return Ok(shared);
        }
        let shared = Arc::new(match (std::env::var(MYSQL_ENV), std::env::var(AMQP_ENV)) {
            (Ok(mysql), Ok(amqp)) => Self::Given { mysql, amqp },
            _ => {
                let folder = TemporaryFolder::new()?;
                let (mysql, rabbit) = (folder.path().join("mysql"), folder.path().join("rabbitmq"));
                let (mysql, rabbit) =
                    tokio::try_join!(MysqlServer::start(&mysql), RabbitServer::start(&rabbit))?;
                Self::Own { mysql, rabbit: Box::new(rabbit), _folder: folder }
            }
        });
        *in_use = Arc::downgrade(&shared);
        Ok(shared)
    }

    fn mysql(&self) -> String {
        match self {
            Self::Given { mysql, .. } => mysql.clone(),
            Self::Own { mysql, .. } => mysql.url(),
        }
    }

    fn amqp(&self) -> String {
        match self {
            Self::Given { amqp, .. } => amqp.clone(),
            Self::Own { rabbit, .. } => rabbit.url(),
        }
    }
}

/// The stores of one test. Removed when dropped.
#[derive(Debug)]
pub struct Stores {
    /// An empty schema.
    pub mysql_url: String,
    /// An empty Redis.
    pub redis_url: String,
    /// A broker that other tests use too, with other names.
    pub amqp_url: String,
    /// Begins all names of this test in the broker.
    pub amqp_prefix: String,
    /// The Redis, for tests that kill or empty it.
    pub redis: RedisServer,
    schema: String,
    shared: Arc<Shared>,
    _folder: TemporaryFolder,
}

impl Stores {
    /// Makes new stores.
    ///
    /// # Errors
    /// If a server cannot be started or reached.
    pub async fn for_test() -> anyhow::Result<Self> {
        let shared = Shared::get().await?;
        let folder = TemporaryFolder::new()?;
        let redis = RedisServer::start(folder.path()).await?;
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let schema = format!("CREATE DATABASE {name} DEFAULT CHARACTER SET utf8mb4");
        super::mysql::execute(&shared.mysql(), schema).await.context("making a schema for the test")?;
        Ok(Self {
            mysql_url: format!("{}/{name}", shared.mysql()),
            redis_url: redis.url(),
            amqp_url: shared.amqp(),
            amqp_prefix: name.clone(),
            redis,
            schema: name,
            shared,
            _folder: folder,
        })
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        let (mysql, amqp) = (self.shared.mysql(), self.shared.amqp());
        let (schema, prefix) = (self.schema.clone(), self.amqp_prefix.clone());
        // On a thread of its own: the test's runtime may be the one that drops this.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let clean = async {
                super::mysql::drop_schema(&mysql, &schema).await?;
                delete_names(&amqp, &prefix).await
            };
            runtime.block_on(async { tokio::time::timeout(CLEANUP_TIMEOUT, clean).await? })
        });
        if let Ok(Err(error)) = cleaned.join() {
            eprintln!("cleaning up after a test: {error:#}");
        }
    }
}

/// A cleanup that takes longer must not delay the other tests.
const CLEANUP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The most shards of a test.
const SHARDS_MAX: usize = 8;

/// Deletes the queues and exchanges of the system with `prefix`. For RabbitMQ, deleting an unknown name is no error.
async fn delete_names(amqp: &str, prefix: &str) -> anyhow::Result<()> {
    let connection = lapin::Connection::connect(amqp, lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for shard in 0..SHARDS_MAX {
        channel.queue_delete(format!("{prefix}.msg.{shard}").into(), Default::default()).await?;
    }
    channel.queue_delete(format!("{prefix}.dead").into(), Default::default()).await?;
    for exchange in ["msg", "push", "dead"] {
        channel.exchange_delete(format!("{prefix}.{exchange}").into(), Default::default()).await?;
    }
    Ok(connection.close(200, "cleaned".into()).await?)
}
