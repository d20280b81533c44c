//! Bursts, steady rates, spikes, and a single sender.

use std::sync::Arc;

use super::figures::Figures;
use super::load::{FIFTY_SENDERS, Load, Participants, Rate};
use super::outcome::{Goal, Mark, Outcome, Sample};
use super::run::run_as;
use super::sampler::Sampler;
use super::scale::Scale;
use super::target::Target;
use testbed::client::Report;

/// Messages of a burst that warms up: statements are prepared, and connections opened.
const WARM_UP_MESSAGES: usize = 20_000;

/// Runs a load while it is sampled.
pub(super) async fn sampled(
    name: &str,
    load: &Load,
    target: &mut Target,
) -> anyhow::Result<(Figures, Outcome)> {
    let participants = Participants::new(load, target.deployment().name(&short(name)));
    sampled_as(name, &participants, target).await
}

/// The same for users that a scenario chose.
pub(super) async fn sampled_as(
    name: &str,
    participants: &Participants<'_>,
    target: &mut Target,
) -> anyhow::Result<(Figures, Outcome)> {
    let report = Arc::new(Report::default());
    let sampler = Sampler::start(name, target, &report).await?;
    let deployment = target.deployment().clone();
    let figures = Box::pin(run_as(participants, &deployment, &report, || target.used())).await?;
    let (samples, marks) = sampler.finish();
    let load = serde_json::to_value(participants.load)?;
    let mut outcome = Outcome { samples, marks, load, ..Outcome::default() };
    outcome.latencies.push(figures.ack.clone());
    outcome.latencies.extend(figures.delivery.clone());
    figures.add_to(&mut outcome);
    Ok((figures, outcome))
}

/// A part of names, different for each call: a scenario may run the same load several times.
fn short(name: &str) -> String {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("{letters}{}", &uuid::Uuid::new_v4().simple().to_string()[..4])
}

/// The figures of `burst` and `rate`, as an outcome with plots.
///
/// # Errors
/// As [`run`](super::run).
pub async fn measure(name: &str, load: &Load, target: &mut Target) -> anyhow::Result<(Figures, Outcome)> {
    let (figures, sampled) = sampled(name, load, target).await?;
    let mut outcome = figures.outcome(name);
    (outcome.samples, outcome.marks) = (sampled.samples, sampled.marks);
    Ok((figures, outcome))
}

/// The price of a message, where the processes are known, and the number of refusals.
pub(super) fn add_costs(outcome: &mut Outcome, figures: &Figures) {
    if !figures.cpu_seconds_per_1000.is_empty() {
        let all: f64 = figures.cpu_seconds_per_1000.values().sum();
        outcome.figure("processor time for a message, all processes", all * 1000.0, "us", None);
    }
    for (process, seconds) in &figures.cpu_seconds_per_1000 {
        outcome.figure(&format!("  of it {process}"), seconds * 1000.0, "us", None);
    }
    outcome.figure("messages refused and sent again", as_f64(figures.refused), "times", None);
}

#[expect(clippy::cast_precision_loss, reason = "below 2^52")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// 50 senders, as fast as a window of 64 allows.
pub(super) async fn burst(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    peak(target, WARM_UP_MESSAGES).await?;
    let load = Load { messages: scale.of(FIFTY_SENDERS.messages), ..FIFTY_SENDERS };
    let (figures, mut outcome) = sampled("burst", &load, target).await?;
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
async fn peak(target: &mut Target, messages: usize) -> anyhow::Result<f64> {
    let load = Load { messages, ..FIFTY_SENDERS };
    let (figures, _) = sampled("measuring the peak", &load, target).await?;
    Ok(figures.persisted_per_second)
}

/// The peak that was given, or the rate of a burst; warms up in either case.
pub(super) async fn peak_of(target: &mut Target, scale: &Scale) -> anyhow::Result<f64> {
    peak(target, WARM_UP_MESSAGES).await?;
    match scale.peak {
        Some(peak) => Ok(peak),
        None => peak(target, scale.of(150_000)).await,
    }
}

/// One sender with window 1: replies at the acceptance, then at the commit.
pub(super) async fn alone(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let load = Load { groups: 1, senders: 1, window: 1, messages: scale.of(5_000), ..FIFTY_SENDERS };
    peak(target, WARM_UP_MESSAGES).await?;
    let (accepted, mut outcome) = sampled("accepted", &load, target).await?;
    let (stored, _) = sampled("stored", &Load { stored: true, ..load.clone() }, target).await?;
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
pub(super) async fn steady(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let peak = peak_of(target, scale).await?;
    let rate = Rate { per_second: (peak * 0.3).round(), seconds: 30.0 * scale.factor.min(1.0), spike: None };
    let load = Load { listeners: 1, rate: Some(rate), ..FIFTY_SENDERS };
    let (figures, mut outcome) = sampled("steady", &load, target).await?;
    outcome.what = format!(
        "{:.0} messages/s for {:.0} s from 50 senders in 10 groups (open loop); a listener in each group",
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

/// A tenth of the peak, and the peak itself for ten seconds.
pub(super) async fn spike(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let peak = peak_of(target, scale).await?;
    let per_second = (peak / SPIKE_FACTOR).round();
    let spike = Some((SPIKE_FACTOR, SPIKE_FROM_S, SPIKE_TO_S));
    let load = Load { rate: Some(Rate { per_second, seconds: 45.0, spike }), ..FIFTY_SENDERS };
    let (figures, mut outcome) = sampled("spike", &load, target).await?;
    outcome.what = format!(
        "{per_second:.0} messages/s from 50 senders for 45 s, ten times as many from second 10 to 20; the peak of a \
         burst was {peak:.0}"
    );
    // The samples begin before the senders are connected.
    let begun = outcome.samples.iter().find(|sample| sample.sent > 0).map_or(0.0, |sample| sample.at_s);
    outcome.marks.push(Mark { at_s: begun + SPIKE_FROM_S, text: "spike begins".to_owned() });
    outcome.marks.push(Mark { at_s: begun + SPIKE_TO_S, text: "spike ends".to_owned() });
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

/// Seconds from `since` until at most `few` messages are sent and not stored; not acknowledged, where the database is not
/// known.
pub(super) fn gone_after(samples: &[Sample], since: f64, few: f64) -> Option<f64> {
    let database = samples.iter().any(|sample| sample.stored > 0);
    let done = |sample: &Sample| if database { sample.stored } else { sample.acked };
    let is_gone =
        |sample: &&Sample| sample.at_s >= since && as_f64(sample.sent.saturating_sub(done(sample))) <= few;
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

    #[test]
    fn without_a_database_acknowledged_messages_leave_the_backlog() {
        let sample = |at_s, sent, acked| Sample { at_s, sent, acked, ..Sample::default() };
        let samples = [sample(1.0, 100, 20), sample(2.0, 110, 110)];
        assert_eq!(gone_after(&samples, 1.0, 5.0), Some(1.0));
    }
}
