//! Clients that read little or nothing: whether the others notice, and whether the slow ones are told to pull.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};

use super::load::{FIFTY_SENDERS, Load, Participants, Rate};
use super::outcome::{Goal, Outcome};
use super::run::{run, run_as};
use super::sampler::Sampler;
use super::scale::Scale;
use super::steady::{add_costs, as_f64};
use super::target::Target;
use testbed::client::{Client, Report};

const PER_SECOND: f64 = 5_000.0;
const SECONDS: f64 = 15.0;
/// Members of the group that read nothing until the load has ended.
const STALLED: usize = 20;
/// A slow reader has read everything when no frame comes for this long.
const NO_FRAME_TIMEOUT: Duration = Duration::from_secs(2);

/// The same steady rate twice: without slow readers, and with them.
pub(super) async fn slow_readers(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let (report, deployment) = (Arc::new(Report::default()), target.deployment().clone());
    let sampler = Sampler::start("slow-readers", target, &report).await?;
    let rate = Rate { per_second: PER_SECOND, seconds: SECONDS * scale.factor.min(1.0), spike: None };
    let load = Load { groups: 1, senders: 5, listeners: 20, rate: Some(rate), ..FIFTY_SENDERS };
    let warm_up = Load { rate: Some(Rate { seconds: 2.0, ..rate }), ..load.clone() };
    Box::pin(run(&warm_up, &deployment, "warm", &report, || target.used())).await?;
    sampler.mark("fast readers only");
    let without = Box::pin(run(&load, &deployment, "fast", &report, || target.used())).await?;
    let mut participants = Participants::new(&load, deployment.name("slow"));
    let users: Vec<String> = (0..STALLED).map(|n| deployment.name(&format!("stalled.{n}"))).collect();
    participants.guests.insert(0, users.clone());
    let group = participants.conversation(0);
    deployment.make_group(&group, &participants.members(0)).await?;
    let mut stalled = Vec::new();
    for (n, user) in users.iter().enumerate() {
        stalled.push(deployment.join(n, user, &group).await?);
    }
    sampler.mark("slow readers among them");
    let with = Box::pin(run_as(&participants, &deployment, &report, || target.used())).await?;
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
        "{PER_SECOND} messages/s into one group of 25 that read, first alone, then with {STALLED} that read nothing"
    );
    for (name, figures) in [("without slow readers", &without), ("with slow readers", &with)] {
        let Some(delivery) = &figures.delivery else { continue };
        outcome.figure(&format!("send to push p50, {name}"), delivery.at(50.0), "ms", None);
        outcome.figure(&format!("send to push p99, {name}"), delivery.at(99.0), "ms", None);
        let mut curve = delivery.clone();
        curve.name = format!("send to push, {name}");
        outcome.latencies.push(curve);
    }
    let missed = as_f64(with.pushes_missing());
    outcome.figure("pushes that fast readers missed", missed, "", Some(Goal::Exactly(0.0)));
    outcome.figure("slow readers told to pull", as_f64(told), &format!("of {STALLED}"), None);
    outcome.figure("slow readers disconnected", as_f64(closed), "", Some(Goal::Exactly(0.0)));
    add_costs(&mut outcome, &with);
    with.add_to(&mut outcome);
    Ok(outcome)
}

/// Reads everything that waits; whether a resync was among it. `None`: the connection has ended.
async fn catch_up(client: &mut Client) -> Option<bool> {
    let mut told = false;
    while let Ok(frame) = tokio::time::timeout(NO_FRAME_TIMEOUT, client.socket().next()).await {
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
