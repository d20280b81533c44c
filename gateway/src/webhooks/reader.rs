//! The reader of the change feed that calls endpoints.

use async_trait::async_trait;
use shared::webhook::WebhookId;

use super::delivery::Delivery;
use super::service::Webhooks;
use crate::feed::{FeedReader, Turn};

#[async_trait]
impl FeedReader for Webhooks {
    fn has(&self, name: &str) -> bool {
        WebhookId::of_reader(name).is_some()
    }

    async fn run(&self, turn: Turn) {
        if let Some(id) = WebhookId::of_reader(&turn.name) {
            Delivery::new(self, id, turn).run().await;
        }
    }
}
