//! Groups of several sizes, and private chats: what reaches open sockets.

use super::figures::Figures;
use super::load::{FIFTY_SENDERS, Load, Participants};
use super::outcome::{Goal, Outcome};
use super::scale::Scale;
use super::steady::{add_costs, as_f64, sampled, sampled_as};
use super::target::Target;

fn add_deliveries(outcome: &mut Outcome, figures: &Figures, goal: Option<Goal>) {
    outcome.figure("deliveries into open sockets", figures.pushes_per_second, "messages/s", goal);
    outcome.figure("acked and committed", figures.persisted_per_second, "messages/s", None);
    if figures.heard_due > 0 {
        let share = 100.0 * as_f64(figures.heard) / as_f64(figures.heard_due);
        outcome.figure("of those due to listeners", share, "%", None);
    }
    outcome.figure("ack p50", figures.ack.at(50.0), "ms", None);
    if let Some(delivery) = &figures.delivery {
        outcome.figure("send to push p50", delivery.at(50.0), "ms", None);
        outcome.figure("send to push p99", delivery.at(99.0), "ms", None);
    }
    add_costs(outcome, figures);
}

/// 10 groups of 50.
pub(super) async fn groups_of_50(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let load = Load { listeners: 45, messages: scale.of(200_000), ..FIFTY_SENDERS };
    let (figures, mut outcome) = sampled("groups-of-50", &load, target).await?;
    outcome.what = format!("{} messages; 10 groups of 50, 5 of each send, all are connected", load.messages);
    add_deliveries(&mut outcome, &figures, Some(Goal::AtLeast(400_000.0)));
    Ok(outcome)
}

/// One group of 500.
pub(super) async fn group_of_500(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let messages = scale.of(30_000);
    let load = Load { groups: 1, senders: 10, listeners: 490, messages, ..FIFTY_SENDERS };
    let (figures, mut outcome) = sampled("group-of-500", &load, target).await?;
    outcome.what = format!("{messages} messages; one group of 500, 10 send, all are connected");
    add_deliveries(&mut outcome, &figures, Some(Goal::AtLeast(500_000.0)));
    Ok(outcome)
}

/// 1,000 groups of 5.
pub(super) async fn small_groups(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let (groups, messages) = (scale.of(1_000), scale.of(200_000));
    let load = Load { groups, senders: 1, listeners: 4, messages, window: 8, ..FIFTY_SENDERS };
    let (figures, mut outcome) = sampled("small-groups", &load, target).await?;
    outcome.what = format!("{messages} messages; {groups} groups of 5, one of each sends, window 8");
    add_deliveries(&mut outcome, &figures, None);
    Ok(outcome)
}

/// 2,000 pairs.
pub(super) async fn private(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let (groups, messages) = (scale.of(2_000), scale.of(200_000));
    let load = Load { groups, senders: 2, messages, window: 4, ..FIFTY_SENDERS };
    let pairs = Participants::new(&load, target.deployment().name("private"));
    let pairs = Participants { private: true, ..pairs };
    let (figures, mut outcome) = sampled_as("private", &pairs, target).await?;
    outcome.what = format!("{messages} messages; {groups} private chats, both sides send, window 4");
    add_deliveries(&mut outcome, &figures, None);
    Ok(outcome)
}
