//! A database with the present schema, for several test programs.

use std::time::Duration;

use shared::config;
use shared::mysql::{self, Ping, Pool};
use testbed::stack::Stores;

/// The pool of the database of `stores`, after all migrations.
pub(crate) async fn migrated(stores: &Stores) -> Pool {
    let settings = config::Mysql { url: stores.mysql_url.as_str().into(), ..Default::default() };
    let pool = mysql::connect(&settings, Ping::Never, Duration::from_secs(30)).await.unwrap();
    mysql::migrate(&pool).await.unwrap();
    pool
}
