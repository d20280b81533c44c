//! What the fanout of events costs as gateways are added: private chats and small groups on 1, 2, 4 and 8 gateways.
//!
//! An event has the messages of one conversation in one commit, so that a message is less than an event under load. It is
//! useful to a gateway with a connection of a member, the sender included. `--set events.targeted_from_gateways=0` measures what
//! it costs if all events go to all gateways.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::figures::Figures;
use super::load::{FIFTY_SENDERS, Load, Participants};
use super::outcome::Outcome;
use super::run::run_as;
use super::sampler::Sampler;
use super::scale::Scale;
use super::steady::as_f64;
use super::target::Target;
use testbed::client::Report;
use testbed::meter::{OWN, metric};

/// Messages of each step.
const MESSAGES: usize = 40_000;
const CHATS: usize = 500;
const GROUPS: usize = 250;
const USEFUL: &str = r#"im_push_events_total{useful="true"}"#;
const USELESS: &str = r#"im_push_events_total{useful="false"}"#;
/// Events go to some gateways only ten seconds after a worker first saw Redis.
const TARGETED_AFTER: Duration = Duration::from_secs(15);

/// Events of one step, of all gateways.
#[derive(Debug, Clone, Copy)]
struct Events {
    useful: f64,
    useless: f64,
}

/// Each load on 8, 4, 2 and 1 gateways.
pub(super) async fn fanout(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let messages = scale.of(MESSAGES);
    let chats = Load { groups: scale.of(CHATS), senders: 2, messages, window: 2, ..FIFTY_SENDERS };
    let groups =
        Load { groups: scale.of(GROUPS), senders: 1, listeners: 4, messages, window: 4, ..FIFTY_SENDERS };
    let mut outcome = Outcome::default();
    let mut steps = Vec::new();
    tokio::time::sleep(TARGETED_AFTER).await;
    for count in [8, 4, 2, 1] {
        for gateway in count..8 {
            target.system()?.gateway(gateway).terminate().await;
        }
        for (name, load, private) in [("private chats", &chats, true), ("groups of 5", &groups, false)] {
            let (figures, events) = step(target, count, load, private).await?;
            steps.push((count, name, figures.cpu_seconds_per_1000.clone(), events));
            figures.add_to(&mut outcome);
        }
    }
    outcome.what = format!(
        "{messages} messages at each step, into {} private chats and into {} groups of 5; all users are connected",
        chats.groups, groups.groups
    );
    steps.sort_by_key(|(count, name, ..)| (std::cmp::Reverse(*name), *count));
    for (count, name, processor, Events { useful, useless }) in steps {
        let mut figure = |what: &str, value: f64, unit: &str| {
            let gateways = if count == 1 { "gateway" } else { "gateways" };
            outcome.figure(&format!("{name}, {count} {gateways}: {what}"), value, unit, None);
        };
        let of_a_message = 1.0 / as_f64(u64::try_from(messages)?);
        figure("useful events of a message", useful * of_a_message, "");
        figure("useless events of a message", useless * of_a_message, "");
        figure("useless share", 100.0 * useless / (useful + useless).max(1.0), "%");
        let of_all: f64 = without_load_generator(&processor).map(|(_, seconds)| seconds).sum();
        figure("processor time for a message", of_all * 1000.0, "us");
        for (process, seconds) in without_load_generator(&processor) {
            figure(&format!("processor time of {process} for a message"), seconds * 1000.0, "us");
        }
    }
    Ok(outcome)
}

fn without_load_generator(processor: &BTreeMap<String, f64>) -> impl Iterator<Item = (&String, &f64)> {
    processor.iter().filter(|(process, _)| *process != OWN)
}

/// One load on the first `count` gateways, which are all that run.
async fn step(
    target: &mut Target,
    count: usize,
    load: &Load,
    private: bool,
) -> anyhow::Result<(Figures, Events)> {
    let name = if private { "pairs" } else { "fives" };
    let deployment = target.deployment().with_first(count);
    let participants = Participants::new(load, deployment.name(&format!("{name}{count}")));
    let participants = Participants { private, ..participants };
    let report = Arc::new(Report::default());
    let sampler = Sampler::start(&format!("{name} on {count} gateways"), target, &report).await?;
    let before = events(target, count).await?;
    let figures = Box::pin(run_as(&participants, &deployment, &report, || target.used())).await?;
    let after = events(target, count).await?;
    drop(sampler);
    let (useful, useless) = (after.useful - before.useful, after.useless - before.useless);
    Ok((figures, Events { useful, useless }))
}

/// Events that the first `count` gateways received so far.
async fn events(target: &mut Target, count: usize) -> anyhow::Result<Events> {
    let mut urls = target.system()?.ops_urls();
    urls.truncate(count);
    let mut events = Events { useful: 0.0, useless: 0.0 };
    for url in urls {
        events.useful += metric(&url, USEFUL).await?;
        events.useless += metric(&url, USELESS).await?;
    }
    Ok(events)
}
