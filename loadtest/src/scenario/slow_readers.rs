//! Readers that take little or nothing: do the others feel it, and are they told what they missed?

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};

use super::catalog::Scale;
use super::outcome::{Goal, Outcome};
use super::run::{Load, Rate, joined, run_watched};
use super::sampler::Sampler;
use super::steady::{FIFTY_SENDERS, add_costs, as_f64};
use testbed::client::{Client, Report};
use testbed::meter::used;
use testbed::stack::System;

const PER_SECOND: f64 = 5_000.0;
const SECONDS: f64 = 15.0;
/// Members of the group that take nothing until everything is over.
const STALLED: usize = 20;
/// Without a frame for so long there are none any more.
const SILENCE: Duration = Duration::from_secs(2);

/// The same steady rate twice: without slow readers, and with them.
pub(super) async fn slow_readers(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    let (report, gateways) = (Arc::new(Report::default()), system.ws_urls());
    let sampler = Sampler::start("slow-readers", system, &report).await?;
    let rate = Rate { per_second: PER_SECOND, seconds: SECONDS * scale.factor.min(1.0), spike: None };
    let load = Load { groups: 1, senders: 5, listeners: 20, rate: Some(rate), ..FIFTY_SENDERS };
    let warm_up = Load { rate: Some(Rate { seconds: 2.0, ..rate }), ..load.clone() };
    Box::pin(run_watched(&warm_up, &gateways, "warm", &report, || used(system))).await?;
    sampler.mark("fast readers only");
    let without = Box::pin(run_watched(&load, &gateways, "fast", &report, || used(system))).await?;
    let mut stalled = Vec::new();
    for n in 0..STALLED {
        stalled.push(joined(&gateways[n % gateways.len()], &format!("stalled.{n}"), "group_slow.0").await?);
    }
    sampler.mark("slow readers among them");
    let with = Box::pin(run_watched(&load, &gateways, "slow", &report, || used(system))).await?;
    sampler.mark("the slow ones read");
    let (mut told, mut closed) = (0, 0);
    for client in &mut stalled {
        match catch_up(client).await {
            Some(true) => told += 1,
            Some(false) => {}
            None => closed += 1,
        }
    }
    let (samples, marks) = sampler.finish();
    let mut outcome = Outcome { samples, marks, load: serde_json::to_value(&load)?, ..Outcome::default() };
    outcome.what = format!(
        "{PER_SECOND} messages/s into one group of 25 that read, first alone, then with {STALLED} that take nothing"
    );
    for (name, figures) in [("without slow readers", &without), ("with slow readers", &with)] {
        let Some(delivery) = &figures.delivery else { continue };
        outcome.figure(&format!("send to push p50, {name}"), delivery.at(50.0), "ms", None);
        outcome.figure(&format!("send to push p99, {name}"), delivery.at(99.0), "ms", None);
        let mut curve = delivery.clone();
        curve.name = format!("send to push, {name}");
        outcome.latencies.push(curve);
    }
    let missed = as_f64(with.heard_due - with.heard.min(with.heard_due));
    outcome.figure("messages that fast readers were not pushed", missed, "", Some(Goal::Exactly(0.0)));
    outcome.figure("slow readers told to pull", as_f64(told), &format!("of {STALLED}"), None);
    outcome.figure("slow readers disconnected", as_f64(closed), "", Some(Goal::Exactly(0.0)));
    add_costs(&mut outcome, &with);
    outcome.verdict = Some(with.verdict);
    Ok(outcome)
}

/// Reads everything that waits; whether a resync was among it. `None`: the connection has ended.
async fn catch_up(client: &mut Client) -> Option<bool> {
    let mut told = false;
    while let Ok(frame) = tokio::time::timeout(SILENCE, client.socket().next()).await {
        let mut next = frame;
        loop {
            let Some(Ok(frame)) = next else { return None };
            told |= frame.to_text().is_ok_and(|text| text.contains("\"resync\""));
            let Some(ready) = client.socket().next().now_or_never() else { break };
            next = ready;
        }
        if told {
            break;
        }
    }
    Some(told)
}
