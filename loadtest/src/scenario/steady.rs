//! Bursts, steady rates, spikes, and one sender alone.

use std::sync::Arc;

use super::catalog::Scale;
use super::outcome::{Goal, Outcome, Sample};
use super::run::{Figures, Load, Rate, run_private, run_watched};
use super::sampler::Sampler;
use testbed::client::Report;
use testbed::meter::used;
use testbed::stack::System;

/// The load that the goals speak of: 50 senders in 10 groups, window 64, 200 bytes.
pub(super) const FIFTY_SENDERS: Load = Load {
    groups: 10,
    listeners: 0,
    senders: 5,
    messages: 500_000,
    window: 64,
    size: 200,
    stored: false,
    rate: None,
};

/// Runs a load while it is sampled.
pub(super) async fn watched(
    name: &str,
    load: &Load,
    system: &mut System,
) -> anyhow::Result<(Figures, Outcome)> {
    watched_as(name, load, false, system).await
}

/// The same; with `private`, every group is a private chat.
pub(super) async fn watched_as(
    name: &str,
    load: &Load,
    private: bool,
    system: &mut System,
) -> anyhow::Result<(Figures, Outcome)> {
    let report = Arc::new(Report::default());
    let sampler = Sampler::start(name, system, &report).await?;
    let gateways = system.ws_urls();
    let run = uuid::Uuid::new_v4().simple().to_string();
    let figures = if private {
        Box::pin(run_private(load, &gateways, &run[..8], &report, || used(system))).await?
    } else {
        Box::pin(run_watched(load, &gateways, &run[..8], &report, || used(system))).await?
    };
    let (samples, marks) = sampler.finish();
    let mut outcome = Outcome { samples, marks, load: serde_json::to_value(load)?, ..Outcome::default() };
    outcome.latencies.push(figures.ack.clone());
    outcome.latencies.extend(figures.delivery.clone());
    outcome.verdict = Some(figures.verdict.clone());
    Ok((figures, outcome))
}

/// Price of a message, and what was refused.
pub(super) fn add_costs(outcome: &mut Outcome, figures: &Figures) {
    let all: f64 = figures.cpu_seconds_per_1000.values().sum();
    outcome.figure("processor time for a message, all processes", all * 1000.0, "us", None);
    for (process, seconds) in &figures.cpu_seconds_per_1000 {
        outcome.figure(&format!("  of it {process}"), seconds * 1000.0, "us", None);
    }
    outcome.figure("refused with 429 or 503", as_f64(figures.refused), "times", None);
}

#[allow(clippy::cast_precision_loss)] // below 2^52
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// As many as a window of 64 lets through.
pub(super) async fn burst(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    // Statements are prepared and connections opened before it counts.
    peak(system, 20_000).await?;
    let load = Load { messages: scale.of(FIFTY_SENDERS.messages), ..FIFTY_SENDERS };
    let (figures, mut outcome) = watched("burst", &load, system).await?;
    outcome.what = format!("{} messages from 50 senders in 10 groups, window 64", load.messages);
    outcome.figure("acked", figures.acked_per_second, "messages/s", Some(Goal::AtLeast(30_000.0)));
    let stored = figures.persisted_per_second;
    outcome.figure("acked and committed", stored, "messages/s", Some(Goal::AtLeast(30_000.0)));
    outcome.figure("ack p50 (of a full window)", figures.ack.at(50.0), "ms", None);
    outcome.figure("ack p99 (of a full window)", figures.ack.at(99.0), "ms", None);
    add_costs(&mut outcome, &figures);
    Ok(outcome)
}

/// The rate of a short burst.
async fn peak(system: &mut System, messages: usize) -> anyhow::Result<f64> {
    let load = Load { messages, ..FIFTY_SENDERS };
    let (figures, _) = watched("how much it can do", &load, system).await?;
    Ok(figures.persisted_per_second)
}

/// What the peak is taken for; warms up in either case.
pub(super) async fn peak_of(system: &mut System, scale: &Scale) -> anyhow::Result<f64> {
    peak(system, 20_000).await?;
    match scale.peak {
        Some(peak) => Ok(peak),
        None => peak(system, scale.of(150_000)).await,
    }
}

/// One sender, window 1: accepted, then stored.
pub(super) async fn alone(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    let load = Load { groups: 1, senders: 1, window: 1, messages: scale.of(5_000), ..FIFTY_SENDERS };
    peak(system, 20_000).await?;
    let (accepted, mut outcome) = watched("accepted", &load, system).await?;
    let (stored, _) = watched("stored", &Load { stored: true, ..load.clone() }, system).await?;
    outcome.what = format!("{} messages from one sender, one at a time", load.messages);
    outcome.figure("ack p50: accepted", accepted.ack.at(50.0), "ms", Some(Goal::Under(2.0)));
    outcome.figure("ack p99: accepted", accepted.ack.at(99.0), "ms", Some(Goal::Under(8.0)));
    outcome.figure("ack p50: stored", stored.ack.at(50.0), "ms", None);
    outcome.figure("ack p99: stored", stored.ack.at(99.0), "ms", None);
    add_costs(&mut outcome, &accepted);
    let mut curve = stored.ack;
    "send to acknowledgement, stored".clone_into(&mut curve.name);
    outcome.latencies.push(curve);
    Ok(outcome)
}

/// An open loop at 30 % of the peak.
pub(super) async fn steady(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    let peak = peak_of(system, scale).await?;
    let rate = Rate { per_second: (peak * 0.3).round(), seconds: 30.0 * scale.factor.min(1.0), spike: None };
    let load = Load { listeners: 1, rate: Some(rate), ..FIFTY_SENDERS };
    let (figures, mut outcome) = watched("steady", &load, system).await?;
    outcome.what = format!(
        "{:.0} messages/s for {:.0} s from 50 senders in 10 groups, whatever is answered; a listener in each group",
        rate.per_second, rate.seconds
    );
    outcome.figure("peak of a burst in the same run", peak, "messages/s", None);
    outcome.figure("rate", rate.per_second, "messages/s", None);
    outcome.figure("ack p50", figures.ack.at(50.0), "ms", Some(Goal::Under(3.0)));
    outcome.figure("ack p99", figures.ack.at(99.0), "ms", Some(Goal::Under(20.0)));
    if let Some(delivery) = &figures.delivery {
        outcome.figure("send to push p50", delivery.at(50.0), "ms", Some(Goal::Under(6.0)));
        outcome.figure("send to push p99", delivery.at(99.0), "ms", Some(Goal::Under(40.0)));
    }
    add_costs(&mut outcome, &figures);
    Ok(outcome)
}

const SPIKE_FACTOR: f64 = 10.0;
const SPIKE_FROM_S: f64 = 10.0;
const SPIKE_TO_S: f64 = 20.0;

/// Ten times a steady rate, which is a tenth of the peak, for ten seconds.
pub(super) async fn spike(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    let peak = peak_of(system, scale).await?;
    let per_second = (peak / SPIKE_FACTOR).round();
    let spike = Some((SPIKE_FACTOR, SPIKE_FROM_S, SPIKE_TO_S));
    let load = Load { rate: Some(Rate { per_second, seconds: 45.0, spike }), ..FIFTY_SENDERS };
    let (figures, mut outcome) = watched("spike", &load, system).await?;
    outcome.what = format!(
        "{per_second:.0} messages/s from 50 senders for 45 s, ten times as many from second 10 to 20; the peak of a \
         burst was {peak:.0}"
    );
    // The clock of the samples begins before the senders are there.
    let begun = outcome.samples.iter().find(|sample| sample.sent > 0).map_or(0.0, |sample| sample.at_s);
    outcome.marks.push(super::Mark { at_s: begun + SPIKE_FROM_S, text: "spike begins".to_owned() });
    outcome.marks.push(super::Mark { at_s: begun + SPIKE_TO_S, text: "spike ends".to_owned() });
    let gone = gone_after(&outcome.samples, begun + SPIKE_TO_S, per_second * 0.25);
    let lost = outcome.verdict.as_ref().map_or(0, |verdict| verdict.lost);
    outcome.figure("messages lost", as_f64(lost as u64), "", Some(Goal::Exactly(0.0)));
    outcome.figure("connections dropped", as_f64(figures.reconnects), "", Some(Goal::Exactly(0.0)));
    let limit = 3.0 * (SPIKE_TO_S - SPIKE_FROM_S);
    let gone = gone.unwrap_or(f64::INFINITY);
    outcome.figure("backlog gone after the spike's end", gone, "s", Some(Goal::Under(limit)));
    outcome.figure("ack p50, all 45 s", figures.ack.at(50.0), "ms", None);
    outcome.figure("ack p99, all 45 s", figures.ack.at(99.0), "ms", None);
    add_costs(&mut outcome, &figures);
    Ok(outcome)
}

/// Seconds from `since` until no more than `few` messages are sent and not stored.
pub(super) fn gone_after(samples: &[Sample], since: f64, few: f64) -> Option<f64> {
    let is_gone =
        |sample: &&Sample| sample.at_s >= since && as_f64(sample.sent.saturating_sub(sample.stored)) <= few;
    samples.iter().find(is_gone).map(|sample| sample.at_s - since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_gone_when_little_is_left() {
        let sample = |at_s, sent, stored| Sample { at_s, sent, stored, ..Sample::default() };
        let samples =
            [sample(1.0, 10, 10), sample(2.0, 100, 20), sample(3.0, 110, 60), sample(4.0, 120, 118)];
        assert_eq!(gone_after(&samples, 2.0, 5.0), Some(2.0));
        assert_eq!(gone_after(&samples, 2.0, 1.0), None);
    }
}
