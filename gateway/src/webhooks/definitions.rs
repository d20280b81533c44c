//! The webhooks as operators have defined them, on all gateways within a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::mysql::{self, Pool, webhooks};
use shared::webhook::{Webhook, WebhookId};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::call::Target;
use crate::outgoing::Outgoing;

/// All webhooks are read again after this time, with one statement, while one of them is used.
const VALID_FOR: Duration = Duration::from_secs(1);

/// A webhook, and where its calls go.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) webhook: Webhook,
    /// The error is for operators.
    pub(super) target: Result<Target, String>,
}

type All = BTreeMap<WebhookId, Arc<Definition>>;

/// The webhooks, as they were read at most a second ago.
#[derive(Debug)]
pub(super) struct Definitions {
    pool: Pool,
    read: Mutex<Option<(Instant, All)>>,
}

impl Definitions {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, read: Mutex::default() }
    }

    /// The webhook at present; `None` if it is removed.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn get(
        &self,
        id: &WebhookId,
        outgoing: &Outgoing,
    ) -> Result<Option<Arc<Definition>>, mysql::Error> {
        // Those who ask meanwhile wait for the same statement.
        let mut read = self.read.lock().await;
        if let Some((at, all)) = &*read
            && at.elapsed() < VALID_FOR
        {
            return Ok(all.get(id).cloned());
        }
        let begun = Instant::now();
        let mut all = All::new();
        for webhook in webhooks::all(&self.pool).await? {
            let target = Target::of(&webhook, outgoing);
            all.insert(webhook.id.clone(), Arc::new(Definition { webhook, target }));
        }
        let found = all.get(id).cloned();
        *read = Some((begun, all));
        Ok(found)
    }
}
