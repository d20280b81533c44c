//! What is wrong with a deployment. Pure.

use std::collections::BTreeSet;

use super::report::{Finding, Status};
use crate::text::time;

/// Waiting bodies of one shard that are no usual load: up to 256,000 messages.
const READY_BODIES_MAX: u32 = 1_000;

/// Everything that is wrong, the worst first.
pub(super) fn findings(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |code, message: String| findings.push(Finding { code, message });
    if status.stores.redis.is_reachable {
        let is_any = |role: &str| status.processes.iter().any(|process| process.role == role);
        if !is_any("worker") {
            find("no_worker", "no worker is alive: messages are accepted and not committed".to_owned());
        }
        if !is_any("gateway") {
            find("no_gateway", "no gateway is alive: clients cannot connect".to_owned());
        }
    }
    if status.stores.rabbitmq.is_reachable {
        of_queues(status, &mut find);
    }
    for process in status.processes.iter().filter(|process| process.is_ready == Some(false)) {
        let at = process.address.as_deref().unwrap_or("its address");
        find(
            "not_ready",
            format!("{} {} is not ready: http://{at}/readyz says why", process.role, process.id),
        );
    }
    if let Some(letters) = status.dead_letters.filter(|letters| *letters > 0) {
        find(
            "dead_letters",
            format!("{letters} in the dead-letter queue: `imctl dead-letters list` says why"),
        );
    }
    if status.processes.iter().any(|process| process.harmful_policies.is_some_and(|queues| queues > 0)) {
        let message = "a policy of RabbitMQ deletes accepted messages: `imctl config check` names it";
        find("harmful_policy", message.to_owned());
    }
    let fed: BTreeSet<bool> = status.processes.iter().filter_map(|process| process.is_feeding).collect();
    if fed.len() > 1 {
        let message =
            "feed.enabled is not equal on all processes: what those without it commit is missing in the feed";
        find("feed_differs", message.to_owned());
    }
    for webhook in &status.webhooks_failing {
        let (id, since) = (&webhook.id, time(webhook.failing_since_ms));
        let message = format!(
            "webhook {id} has received nothing since {since}, {}: `imctl webhook show {id}`",
            webhook.last_error
        );
        find("webhook_failing", message);
    }
    let versions: BTreeSet<&str> =
        status.processes.iter().filter_map(|process| process.version.as_deref()).collect();
    if versions.len() > 1 {
        let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
        find("versions_differ", format!("versions {versions} run at the same time: finish the upgrade"));
    }
    if let Some(pending) = status.migrations_pending.filter(|pending| *pending > 0) {
        let message = format!(
            "the schema lacks {pending} migrations of this version: the next process that starts runs them, or `imctl migrate`"
        );
        find("migrations_pending", message);
    }
    findings
}

fn of_queues(status: &Status, find: &mut impl FnMut(&'static str, String)) {
    for shard in status.shards.iter().flatten() {
        let n = shard.shard;
        match shard.consumers {
            None => find(
                "no_queue",
                format!("shard {n} has no queue in RabbitMQ: a gateway or a worker makes it when it starts"),
            ),
            Some(0) => {
                find("no_consumer", format!("no worker consumes shard {n}: its messages are not committed"))
            }
            Some(_) => {}
        }
        if let Some(ready) = shard.ready_bodies.filter(|ready| *ready > READY_BODIES_MAX) {
            let message = format!(
                "{ready} bodies wait in the queue of shard {n}: its worker is too slow, or MySQL is; see docs/operations.md"
            );
            find("backlog", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{FailingWebhook, Process, Shard};
    use super::*;

    fn healthy() -> Status {
        let process = |role| Process {
            role,
            version: Some("1.0.0".to_owned()),
            is_ready: Some(true),
            ..Process::default()
        };
        let mut status =
            Status { processes: vec![process("gateway"), process("worker")], ..Status::default() };
        status.stores.redis.is_reachable = true;
        status.stores.rabbitmq.is_reachable = true;
        status.shards = Some(vec![Shard { consumers: Some(1), ready_bodies: Some(3), ..Shard::default() }]);
        status.dead_letters = Some(0);
        status.migrations_pending = Some(0);
        status
    }

    fn codes(change: impl FnOnce(&mut Status)) -> Vec<&'static str> {
        let mut status = healthy();
        change(&mut status);
        findings(&status).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn each_fault_is_found_and_a_healthy_deployment_has_none() {
        assert_eq!(codes(|_| {}), [""; 0]);
        assert_eq!(codes(|status| status.processes.clear()), ["no_worker", "no_gateway"]);
        assert_eq!(codes(|status| status.processes[1].is_ready = Some(false)), ["not_ready"]);
        assert_eq!(
            codes(|status| status.processes[1].version = Some("1.0.1".to_owned())),
            ["versions_differ"]
        );
        assert_eq!(codes(|status| status.processes[0].harmful_policies = Some(2)), ["harmful_policy"]);
        assert_eq!(
            codes(|status| {
                status.processes[0].is_feeding = Some(true);
                status.processes[1].is_feeding = Some(false);
            }),
            ["feed_differs"]
        );
        let webhook = FailingWebhook {
            id: "0123456789abcdef".to_owned(),
            failing_since_ms: 1,
            last_error: "it did not answer".to_owned(),
        };
        assert_eq!(codes(|status| status.webhooks_failing = vec![webhook]), ["webhook_failing"]);
        assert_eq!(codes(|status| status.dead_letters = Some(1)), ["dead_letters"]);
        assert_eq!(codes(|status| status.migrations_pending = Some(1)), ["migrations_pending"]);
        let shard = |change: fn(&mut Shard)| codes(|status| change(&mut status.shards.as_mut().unwrap()[0]));
        assert_eq!(shard(|shard| shard.consumers = Some(0)), ["no_consumer"]);
        assert_eq!(shard(|shard| shard.consumers = None), ["no_queue"]);
        assert_eq!(shard(|shard| shard.ready_bodies = Some(1_001)), ["backlog"]);
    }

    #[test]
    fn a_store_that_was_not_reached_is_no_finding() {
        assert_eq!(
            codes(|status| {
                status.stores.redis.is_reachable = false;
                status.stores.rabbitmq.is_reachable = false;
                status.processes.clear();
                status.shards = Some(vec![Shard::default()]);
            }),
            [""; 0]
        );
    }
}
