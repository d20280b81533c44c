//! Which policies of RabbitMQ delete messages of durable queues, or move them away. Pure.
//!
//! RabbitMQ merges a queue's policy and operator policy into its effective policy. If that and an argument of the queue name
//! the same property, the lower number counts for TTLs, lengths and the delivery limit, and the policy for `overflow`. So
//! arguments protect only against a length limit that does not say what happens at the limit.

use serde::Deserialize;
use serde_json::{Map, Value};

/// A lower delivery limit is too low for a work queue, whose workers may be killed repeatedly during an outage, and for
/// dead letters, which return to their queue each time an operator lists them.
const DELIVERY_LIMIT_MIN: f64 = 10.0;
/// The overflow behaviors that refuse publishes.
const REFUSING: [&str; 2] = ["reject-publish", "reject-publish-dlx"];

/// What the management API says about a queue.
#[derive(Debug, Default, Deserialize)]
pub(super) struct QueuePolicies {
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    operator_policy: Option<String>,
    /// An object, or an empty list if there is no policy; absent until the API has collected it, every 5 s.
    #[serde(default)]
    effective_policy_definition: Option<Value>,
    /// The nodes with a replica; only of a quorum queue.
    #[serde(default)]
    members: Vec<Value>,
}

impl QueuePolicies {
    /// What the effective policy does to messages, one sentence each; empty if it is harmless, `None` if it is not known yet.
    pub(super) fn harms(&self) -> Option<Vec<String>> {
        let none = Map::new();
        let policy = self.effective_policy_definition.as_ref()?.as_object().unwrap_or(&none);
        let arguments = self.arguments.as_object().unwrap_or(&none);
        let mut harms = Vec::new();
        if let Some(ttl) = policy.get("message-ttl") {
            harms.push(format!("message-ttl = {ttl} deletes messages after {ttl} ms"));
        }
        if let Some(expires) = policy.get("expires") {
            harms.push(format!("expires = {expires} deletes the queue {expires} ms after its last use"));
        }
        let overflow = policy.get("overflow").or_else(|| arguments.get("x-overflow")).and_then(Value::as_str);
        if !overflow.is_some_and(|overflow| REFUSING.contains(&overflow)) {
            for key in ["max-length", "max-length-bytes"] {
                if let Some(limit) = policy.get(key) {
                    harms.push(format!(
                        "{key} = {limit} deletes the oldest messages; add \"overflow\":\"reject-publish\""
                    ));
                }
            }
        }
        if let Some(limit) = policy.get("delivery-limit").and_then(Value::as_f64)
            && (0.0..DELIVERY_LIMIT_MIN).contains(&limit)
        {
            harms.push(format!("delivery-limit = {limit} removes messages after {limit} deliveries"));
        }
        Some(harms)
    }

    /// The number of replicas; `None` for a queue that has none by its kind.
    pub(super) fn replicas(&self) -> Option<usize> {
        Some(self.members.len()).filter(|members| *members > 0)
    }

    /// The names of the policies, for the log.
    pub(super) fn names(&self) -> String {
        let named = |kind: &str, name: &Option<String>| {
            name.as_ref().filter(|name| !name.is_empty()).map(|name| format!("{kind} {name}"))
        };
        let names = [named("policy", &self.policy), named("operator policy", &self.operator_policy)];
        let names: Vec<String> = names.into_iter().flatten().collect();
        if names.is_empty() { "its policy".to_owned() } else { names.join(" and ") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(arguments: Value, definition: Value) -> QueuePolicies {
        let text = json!({
            "arguments": arguments, "policy": "all", "operator_policy": "", "effective_policy_definition": definition,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_policy_that_deletes_messages_is_named() {
        let plain = json!({"x-queue-type": "quorum"});
        let refusing = json!({"x-queue-type": "quorum", "x-overflow": "reject-publish"});
        for (arguments, definition, named) in [
            (&plain, json!({"message-ttl": 60000}), &["message-ttl"][..]),
            (&refusing, json!({"message-ttl": 60000, "max-length": 5}), &["message-ttl"]),
            (&plain, json!({"expires": 1000}), &["expires"]),
            (&plain, json!({"max-length": 5}), &["max-length = 5"]),
            (
                &plain,
                json!({"max-length": 5, "max-length-bytes": 9}),
                &["max-length = 5", "max-length-bytes = 9"],
            ),
            (&plain, json!({"max-length": 5, "overflow": "drop-head"}), &["max-length"]),
            (&refusing, json!({"max-length": 5, "overflow": "drop-head"}), &["max-length"]),
            (&refusing, json!({"max-length": 5}), &[]),
            (&plain, json!({"max-length": 5, "overflow": "reject-publish"}), &[]),
            (&plain, json!({"max-length-bytes": 5, "overflow": "reject-publish-dlx"}), &[]),
            (&plain, json!({"delivery-limit": 3}), &["delivery-limit"]),
            (&plain, json!({"delivery-limit": 1000}), &[]),
            (&plain, json!({"delivery-limit": -1}), &[]),
            (&plain, json!({"overflow": "drop-head", "max-in-memory-length": 1}), &[]),
            (&plain, json!({}), &[]),
            (&plain, json!([]), &[]),
            (&json!([]), json!([]), &[]),
        ] {
            let harms = of(arguments.clone(), definition.clone()).harms().unwrap();
            assert_eq!(harms.len(), named.len(), "{definition}: {harms:?}");
            for (harm, named) in harms.iter().zip(named) {
                assert!(harm.contains(named), "{definition}: {harm}");
            }
        }
    }

    #[test]
    fn a_policy_that_is_not_collected_yet_is_not_known() {
        assert_eq!(QueuePolicies::default().harms(), None);
    }

    #[test]
    fn policies_are_named_if_the_server_names_them() {
        assert_eq!(of(json!({}), json!({})).names(), "policy all");
        assert_eq!(QueuePolicies::default().names(), "its policy");
        let operator = QueuePolicies { operator_policy: Some("max".to_owned()), ..Default::default() };
        assert_eq!(operator.names(), "operator policy max");
    }
}
