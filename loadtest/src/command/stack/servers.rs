//! Options that choose the servers.

use clap::Args;
use testbed::stack::{Install, Urls};

/// Which servers to use.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
    /// Use this MySQL, with an existing schema: mysql://user:password@host:3306/schema
    #[arg(long, requires = "redis_url")]
    mysql_url: Option<String>,
    /// Use this Redis: redis://host:6379
    #[arg(long, requires = "amqp_url")]
    redis_url: Option<String>,
    /// Use this RabbitMQ: amqp://user:password@host:5672/%2f
    #[arg(long, requires = "mysql_url")]
    amqp_url: Option<String>,
}

impl Where {
    pub(crate) fn given(&self) -> Option<Urls> {
        let (mysql, redis, amqp) = (self.mysql_url.clone()?, self.redis_url.clone()?, self.amqp_url.clone()?);
        Some(Urls { mysql, redis, amqp })
    }

    pub(crate) fn install(&self) -> Install {
        Install::when(self.install)
    }
}
