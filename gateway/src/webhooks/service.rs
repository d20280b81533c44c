//! What the webhooks of a gateway share.

use std::sync::Arc;
use std::time::Duration;

use shared::live::Live;
use shared::mysql::Pool;
use shared::webhook::Webhook;
use tokio::sync::Semaphore;

use super::definitions::Definitions;
use super::lag::{LagReport, Lags};
use super::one_off::{self, Tested};
use crate::config::Config;
use crate::feed::ChangeFeed;
use crate::outgoing::Outgoing;

/// Pages that are read, and places that are stored, at the same time: the other connections to the database are for users.
const STATEMENTS_AT_ONCE: usize = 2;

/// Calls the endpoints of an app.
#[derive(Debug)]
pub(crate) struct Webhooks {
    pub(super) pool: Pool,
    pub(super) feed: Arc<ChangeFeed>,
    pub(super) outgoing: Outgoing,
    pub(super) definitions: Definitions,
    pub(super) statements: Semaphore,
    pub(super) lags: Arc<Lags>,
    live: Arc<Live<Config>>,
}

impl Webhooks {
    pub(crate) fn new(
        pool: Pool,
        feed: Arc<ChangeFeed>,
        outgoing: Outgoing,
        live: Arc<Live<Config>>,
    ) -> Self {
        Self {
            definitions: Definitions::new(pool.clone()),
            statements: Semaphore::new(STATEMENTS_AT_ONCE),
            lags: Arc::default(),
            pool,
            feed,
            outgoing,
            live,
        }
    }

    /// The longest time of one call.
    pub(crate) fn timeout(&self) -> Duration {
        self.live.now().webhooks.timeout()
    }

    /// The clients that call endpoints.
    pub(crate) fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// What the gauges show.
    pub(crate) fn lag(&self) -> LagReport {
        self.lags.report()
    }

    /// Calls an endpoint once, with a body that says that it is a test.
    pub(crate) async fn test(&self, webhook: &Webhook) -> Tested {
        one_off::call(webhook, &self.outgoing, self.timeout()).await
    }
}
