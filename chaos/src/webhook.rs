//! An endpoint of a webhook that is judged: it fails now and then, before or after it has recorded a batch.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use testbed::client::{Behavior, FeedEvent, Http, WebhookReceiver};
use testbed::stack::{System, wait_for};

/// One of this many calls fails before it is recorded, and another one afterwards.
const FAILS_IN: u32 = 12;
/// Events of one call: few, so that rows are cut.
const BATCH_EVENTS: u32 = 40;
const PATH: &str = "/api/admin/webhooks";

/// A webhook and its endpoint.
#[derive(Debug)]
pub struct JudgedWebhook {
    receiver: WebhookReceiver,
    id: String,
    gateways: Vec<Http>,
}

impl JudgedWebhook {
    /// Adds a webhook that gets the events that come now. `None` if the feed is off, or this machine may not be called.
    ///
    /// # Errors
    /// It cannot be added.
    pub async fn start(system: &System) -> anyhow::Result<Option<Self>> {
        let gateways: Vec<Http> =
            system.http_urls().iter().map(|url| Http::of_operator(url, system.operator_key())).collect();
        let first = gateways.first().context("there are no gateways")?;
        let receiver = WebhookReceiver::start().await?;
        receiver.keep_no_calls();
        receiver.set(|_| match rand::random_range(0..FAILS_IN) {
            0 => Behavior::Status(Duration::ZERO, 500),
            1 => Behavior::Lost,
            _ => Behavior::Status(Duration::ZERO, 200),
        });
        let body = json!({"name": "chaos", "url": receiver.url(), "batch_events": BATCH_EVENTS});
        let (status, answer) = first.call("POST", PATH, Some(&body)).await?;
        if matches!(status, 400 | 404) {
            return Ok(None);
        }
        anyhow::ensure!(status == 200, "adding a webhook: {status} {answer}");
        let secret = answer["secret"].as_str().context("no secret")?;
        receiver.set_secrets(&[secret]);
        let id = answer["id"].as_str().context("no id")?.to_owned();
        Ok(Some(Self { receiver, id, gateways }))
    }

    /// Waits until the endpoint has everything, and removes the webhook. Returns the events of each shard in the order of
    /// their first deliveries, and what was wrong.
    ///
    /// # Errors
    /// The webhook cannot be removed.
    pub async fn finish(self, timeout: Duration) -> anyhow::Result<(Vec<Vec<FeedEvent>>, Vec<String>)> {
        let path = format!("{PATH}/{}", self.id);
        let waited = wait_for("the webhook", timeout, async || {
            let shown = self.gateways[0].ok("GET", &path, None).await?;
            anyhow::ensure!(shown["lag_rows"] == 0, "{shown}");
            Ok(())
        })
        .await;
        let (events, mut complaints) = self.receiver.firsts();
        // The judge finds what is missing; this says why.
        complaints.extend(waited.err().map(|error| format!("{error:#}")));
        self.gateways[0].ok("DELETE", &path, None).await?;
        Ok((events, complaints))
    }
}
