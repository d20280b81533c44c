//! Clients of a real Redis, for several test programs.

use std::time::Duration;

use fred::interfaces::ClientLike as _;
use shared::config;
use shared::redis::{self, Client};
use testbed::stack::Stores;

/// The project's client.
pub(crate) async fn connect(stores: &Stores) -> Client {
    let settings = config::Redis { url: stores.redis_url.as_str().into(), ..Default::default() };
    redis::connect(&settings, Duration::from_secs(10)).await.unwrap()
}

/// A client without the scripts and rules of the project.
pub(crate) async fn raw_client(stores: &Stores) -> fred::clients::Client {
    let config = fred::prelude::Config::from_url(&stores.redis_url).unwrap();
    let client = fred::prelude::Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    client
}
