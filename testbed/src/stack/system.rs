//! A running system.

use std::path::{Path, PathBuf};

use super::links::{End, Links};
use super::plan::Plan;
use super::{Link, RedisServer, Servers, Service, Stores, TemporaryFolder, Urls};
use crate::client::Http;

/// Who owns the servers.
#[derive(Debug)]
pub(super) enum Backing {
    Given,
    Own(Box<Servers>),
    Test(Box<Stores>),
}

/// A running system. Everything that it started ends when it is dropped.
#[derive(Debug)]
pub struct System {
    // Declared first, so that they end before the servers.
    pub(super) gateways: Vec<Service>,
    pub(super) workers: Vec<Service>,
    pub(super) links: Links,
    /// The addresses of the servers.
    pub urls: Urls,
    pub(super) backing: Backing,
    pub(super) temporary: Option<TemporaryFolder>,
    pub(super) plan: Plan,
    /// Begins the names of exchanges and queues.
    pub(super) prefix: String,
    pub(super) operator_key: String,
    pub(super) logs: PathBuf,
}

impl System {
    /// The gateway with this index.
    pub fn gateway(&mut self, n: usize) -> &mut Service {
        &mut self.gateways[n]
    }

    /// The worker with this index.
    pub fn worker(&mut self, n: usize) -> &mut Service {
        &mut self.workers[n]
    }

    /// The number of gateways.
    #[must_use]
    pub fn gateway_count(&self) -> usize {
        self.gateways.len()
    }

    /// The number of workers.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// The addresses for clients, one for each gateway: of the link, if there is one.
    #[must_use]
    pub fn ws_urls(&self) -> Vec<String> {
        let url = |(n, gateway): (usize, &Service)| match self.link(End::Clients, End::Gateway(n)) {
            Some(link) => format!("ws://127.0.0.1:{}/ws", link.port()),
            None => gateway.ws_url(),
        };
        self.gateways.iter().enumerate().map(url).collect()
    }

    /// The link over which `from` connects to `to`, if the system is [linked](super::Builder::linked).
    #[must_use]
    pub fn link(&self, from: End, to: End) -> Option<&Link> {
        self.links.get(from, to)
    }

    /// All gateways and workers.
    pub fn services(&mut self) -> impl Iterator<Item = &mut Service> {
        self.gateways.iter_mut().chain(&mut self.workers)
    }

    /// The servers, if they are private.
    pub fn servers(&mut self) -> Option<&mut Servers> {
        match &mut self.backing {
            Backing::Own(servers) => Some(servers),
            Backing::Given | Backing::Test(_) => None,
        }
    }

    /// The Redis, if it is private or a test's.
    pub fn redis(&mut self) -> Option<&mut RedisServer> {
        match &mut self.backing {
            Backing::Own(servers) => Some(&mut servers.redis),
            Backing::Test(stores) => Some(&mut stores.redis),
            Backing::Given => None,
        }
    }

    /// Begins the names of exchanges and queues.
    #[must_use]
    pub fn amqp_prefix(&self) -> &str {
        &self.prefix
    }

    /// The addresses for HTTP calls, one for each gateway.
    #[must_use]
    pub fn http_urls(&self) -> Vec<String> {
        self.gateways.iter().map(Service::http_url).collect()
    }

    /// Calls gateway `n` as `user`, where users are trusted by their id.
    #[must_use]
    pub fn http(&self, n: usize, user: &str) -> Http {
        Http::of_user(&self.gateways[n].http_url(), user)
    }

    /// The addresses for health checks and metrics, one for each gateway.
    #[must_use]
    pub fn ops_urls(&self) -> Vec<String> {
        self.gateways.iter().map(Service::ops_url).collect()
    }

    /// The operator's key, to be sent as `X-Api-Key`.
    #[must_use]
    pub fn operator_key(&self) -> &str {
        &self.operator_key
    }

    /// The folder of the logs.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Keeps the logs even if the folder is a temporary one.
    pub fn keep_logs(&mut self) {
        if let Some(folder) = self.temporary.take() {
            eprintln!("logs are kept in {}", folder.keep().display());
        }
    }

    /// Stops the gateways, then the workers, then the servers.
    pub async fn stop(mut self) {
        futures_util::future::join_all(self.gateways.iter_mut().map(Service::terminate)).await;
        futures_util::future::join_all(self.workers.iter_mut().map(Service::terminate)).await;
        if let Backing::Own(servers) = &mut self.backing {
            servers.stop().await;
        }
    }
}
