//! Reactions: 2,000 a second into a group of 1,000 connected members, and 10,000 to one message.

use std::sync::Arc;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::deployment::Deployment;
use super::figures::Figures;
use super::listeners::histogram;
use super::load::{FIFTY_SENDERS, Load, Participants, Rate};
use super::outcome::{Goal, Latency, Outcome};
use super::scale::Scale;
use super::steady::{add_costs, as_f64, sampled_as};
use super::target::Target;
use testbed::client::Targets;

/// Connected members of the group, and those of them who react.
const MEMBERS: usize = 1_000;
const SENDERS: usize = 20;
/// Messages that they react to.
const TEXTS: usize = 100;
const PER_SECOND: f64 = 2_000.0;
const SECONDS: f64 = 15.0;
/// Reactions to one message: each of 530 users with 20 different ones, but for the texts that are sent before the first
/// one is acknowledged. So there are 10,000 at least.
const REACTING: usize = 530;
const REACTIONS_EACH: usize = 20;
/// Messages of a page, and the pulls that are measured.
const PAGE: usize = 50;
const PULLS: usize = 200;

pub(super) async fn reactions(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let (figures, mut outcome, members) = rate(target, scale).await?;
    let heard = 100.0 * as_f64(figures.heard) / as_f64(figures.heard_due.max(1));
    outcome.figure("reactions acked and committed", figures.persisted_per_second, "/s", None);
    outcome.figure("of those due to listeners", heard, "%", Some(Goal::AtLeast(100.0)));
    outcome.figure("reaction to its answer, p50", figures.ack.at(50.0), "ms", None);
    outcome.figure("reaction to its answer, p99", figures.ack.at(99.0), "ms", Some(Goal::Under(1_000.0)));
    if let Some(delivery) = &figures.delivery {
        outcome.figure("reaction to push, p50", delivery.at(50.0), "ms", None);
        outcome.figure("reaction to push, p99", delivery.at(99.0), "ms", Some(Goal::Under(1_000.0)));
    }
    add_costs(&mut outcome, &figures);
    let (on_one, count, page) = on_one_message(target, scale).await?;
    outcome.figure(&format!("{count} reactions to one message"), on_one.persisted_per_second, "/s", None);
    for (what, with, without) in [
        ("page of 50 with it: bytes", page.with.bytes, page.without.bytes),
        ("page of 50 with it: p50", page.with.p50_ms, page.without.p50_ms),
        ("page of 50 with it: p99", page.with.p99_ms, page.without.p99_ms),
    ] {
        let unit = if what.ends_with("bytes") { "" } else { "ms" };
        outcome.figure(what, with, unit, None);
        outcome.figure("  the same of plain texts", without, unit, None);
    }
    outcome.what = format!(
        "{PER_SECOND} reactions a second for {SECONDS} s to {TEXTS} messages of a group of {members} connected members; then \
         {count} reactions to one message"
    );
    Ok(outcome)
}

async fn rate(target: &mut Target, scale: &Scale) -> anyhow::Result<(Figures, Outcome, usize)> {
    let members = scale.of(MEMBERS).max(SENDERS);
    let rate = Some(Rate { per_second: PER_SECOND, seconds: SECONDS, spike: None });
    let load = Load { groups: 1, senders: SENDERS, listeners: members - SENDERS, rate, ..FIFTY_SENDERS };
    let mut participants = Participants::new(&load, target.deployment().name("react"));
    participants.mix = Some(Arc::new(Targets::reactions(TEXTS)));
    let (figures, outcome) = sampled_as("reactions", &participants, target).await?;
    Ok((figures, outcome, members))
}

/// A page as one reader gets it.
struct Page {
    bytes: f64,
    /// To all its messages.
    reactions: u64,
    p50_ms: f64,
    p99_ms: f64,
}

struct Pages {
    with: Page,
    without: Page,
}

async fn on_one_message(target: &mut Target, scale: &Scale) -> anyhow::Result<(Figures, u64, Pages)> {
    let senders = scale.of(REACTING);
    let load = Load { groups: 1, senders, messages: senders * REACTIONS_EACH, window: 1, ..FIFTY_SENDERS };
    let mut one = Participants::new(&load, target.deployment().name("one"));
    one.mix = Some(Arc::new(Targets::reactions(1)));
    let (figures, _) = sampled_as("one message", &one, target).await?;
    let plain = Load { groups: 1, senders: 1, messages: PAGE, window: 8, ..FIFTY_SENDERS };
    let plain = Participants::new(&plain, target.deployment().name("plain"));
    sampled_as("plain texts", &plain, target).await?;
    let deployment = target.deployment();
    let with = page(deployment, &one).await?;
    let without = page(deployment, &plain).await?;
    Ok((figures, with.reactions, Pages { with, without }))
}

/// Pulls the first page again and again, as a reader with the cursor 0.
async fn page(deployment: &Deployment, participants: &Participants<'_>) -> anyhow::Result<Page> {
    let conversation = participants.conversation(0);
    let mut reader = deployment.join(0, &participants.user(0, 0), &conversation).await?;
    let mut latency: Histogram<u64> = histogram()?;
    let (mut bytes, mut reactions) = (0, 0);
    for _ in 0..PULLS {
        let begun = Instant::now();
        let page = reader.pull(&conversation, 0, PAGE).await?;
        latency.saturating_record(u64::try_from(begun.elapsed().as_micros())?);
        anyhow::ensure!(page.code == 0, "a pull was refused with {}: {}", page.code, page.payload);
        bytes = page.payload.to_string().len();
        reactions = reactions_of(&page.payload);
    }
    let latency = Latency::of("pull", &latency);
    let (p50_ms, p99_ms) = (latency.at(50.0), latency.at(99.0));
    Ok(Page { bytes: as_f64(bytes as u64), reactions, p50_ms, p99_ms })
}

/// The reactions that the messages of a page, a list, show.
fn reactions_of(page: &serde_json::Value) -> u64 {
    let messages = page.as_array().into_iter().flatten();
    let reactions = messages.flat_map(|message| message["reactions"].as_array().into_iter().flatten());
    reactions.filter_map(|reaction| reaction["count"].as_u64()).sum()
}
