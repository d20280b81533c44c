//! Looks at the policies of the durable queues, and at the number of their replicas, at the start and every minute.
//!
//! A policy that matches a queue may delete messages that were accepted, and neither the arguments of the queue nor publisher
//! confirms prevent that. Policies can be changed at any time, without any notice over AMQP.

use std::time::{Duration, Instant};

use super::Topology;
use super::management::{Management, ManagementError};
use super::replicas::ReplicaReport;
use crate::config::{Amqp, ConfigError, OnHarmfulPolicy};
use crate::health::{Check, Health};
use crate::shutdown::Shutdown;

/// How often policies are looked at.
const INTERVAL: Duration = Duration::from_secs(60);
/// The same while one is harmful, or a look fails.
const INTERVAL_WHILE_FAILING: Duration = Duration::from_secs(10);
/// Looks in a row at policies that are not collected yet, before that is a failure.
const UNCOLLECTED_MAX: u32 = 4;
/// How often a harmful policy is logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(600);

/// Watches the policies of one deployment.
#[derive(Debug)]
pub struct PolicyWatch {
    management: Option<Management>,
    topology: Topology,
    /// Only with [`OnHarmfulPolicy::Refuse`].
    check: Option<Check>,
    /// The harms that were logged last, and when.
    logged: Option<(Vec<String>, Instant)>,
    /// Failed looks in a row.
    failed: u32,
    /// The failure is logged.
    is_failing: bool,
    has_looked: bool,
    replicas: ReplicaReport,
}

/// What a look saw.
#[derive(Debug, Default)]
struct Seen {
    /// The number of queues with a harmful policy, and what the policies do.
    harmful: u32,
    harms: Vec<String>,
    /// The number of replicas of each queue that has any.
    replicas: Vec<usize>,
}

impl PolicyWatch {
    /// Checks the keys of a watch.
    ///
    /// # Errors
    /// Names the invalid key.
    pub fn check(settings: &Amqp) -> Result<(), ConfigError> {
        let can_look = Management::new(settings)?.is_some();
        if settings.on_harmful_policy == OnHarmfulPolicy::Refuse && !can_look {
            let why = "is refuse, but policies cannot be looked at: set amqp.management_url";
            return Err(ConfigError::key("amqp.on_harmful_policy", why));
        }
        Ok(())
    }

    /// A watch with the given settings, which adds a check to `health` if a harmful policy makes the process not ready.
    ///
    /// # Errors
    /// Names the invalid key.
    pub fn new(settings: &Amqp, topology: Topology, health: &Health) -> Result<Self, ConfigError> {
        Self::check(settings)?;
        let refuses = settings.on_harmful_policy == OnHarmfulPolicy::Refuse;
        Ok(Self {
            management: Management::new(settings)?,
            topology,
            check: refuses.then(|| health.check("rabbitmq policies")),
            logged: None,
            failed: 0,
            is_failing: false,
            has_looked: false,
            replicas: ReplicaReport::default(),
        })
    }

    /// Looks until the stop.
    pub async fn run(mut self, stop: Shutdown) {
        if self.management.is_none() {
            tracing::info!(
                "Policies of RabbitMQ that delete messages are not noticed, because amqp.management_url is not set; \
                 see docs/operations.md"
            );
            stop.stopping().await;
            return;
        }
        loop {
            let Some(is_healthy) = stop.run_until_stopped(self.look()).await else { return };
            if !stop.sleep(if is_healthy { INTERVAL } else { INTERVAL_WHILE_FAILING }).await {
                return;
            }
        }
    }

    /// Looks once, and logs what it finds. False if a policy is harmful, or is not known.
    pub async fn look(&mut self) -> bool {
        match self.seen().await {
            Ok(Seen { harmful, harms, replicas }) => {
                metrics::gauge!(crate::metrics::HARMFUL_POLICIES).set(f64::from(harmful));
                self.report_replicas(replicas).await;
                (self.failed, self.has_looked) = (0, true);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("The policies of RabbitMQ can be read again");
                }
                self.report(harms)
            }
            Err(error) => {
                self.failed += 1;
                self.report_failure(&error);
                false
            }
        }
    }

    fn report_failure(&mut self, error: &ManagementError) {
        if matches!(error, ManagementError::NotCollected(_)) && self.failed < UNCOLLECTED_MAX {
            return;
        }
        if let Some(check) = self.check.as_ref().filter(|_| !self.has_looked) {
            check.fail(format!("they cannot be read: {error}"));
        }
        metrics::counter!(crate::metrics::POLICY_LOOKS_FAILED).increment(1);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(
                %error,
                "Cannot read the policies of RabbitMQ at amqp.management_url; one that deletes messages is not noticed \
                 until that works"
            );
        }
    }

    async fn report_replicas(&mut self, replicas: Vec<usize>) {
        let Some(management) = &self.management else { return };
        match management.running_nodes().await {
            Ok(nodes) => self.replicas.report(nodes, replicas, self.topology.prefix()),
            // It is no failure: the tag is needed for nothing else.
            Err(error) => {
                tracing::debug!(%error, "Cannot count the nodes of RabbitMQ ({error}); the tag monitoring allows it")
            }
        }
    }

    async fn seen(&self) -> Result<Seen, ManagementError> {
        let mut seen = Seen::default();
        let Some(management) = &self.management else { return Ok(seen) };
        for queue in self.topology.queues() {
            // A missing queue is the concern of another check.
            let Some(policies) = management.policies(queue.as_str()).await? else { continue };
            let of_queue =
                policies.harms().ok_or_else(|| ManagementError::NotCollected(queue.to_string()))?;
            seen.harmful += u32::from(!of_queue.is_empty());
            let names = policies.names();
            seen.harms.extend(of_queue.into_iter().map(|harm| format!("{queue} by {names}: {harm}")));
            seen.replicas.extend(policies.replicas());
        }
        Ok(seen)
    }

    /// Logs `harms` and sets the check. False if there are any.
    fn report(&mut self, harms: Vec<String>) -> bool {
        let is_healthy = harms.is_empty();
        if let Some(check) = &self.check {
            match harms.first() {
                None => check.pass(),
                Some(first) => check.fail(format!("accepted messages may be deleted from {first}")),
            }
        }
        if is_healthy {
            if self.logged.take().is_some() {
                tracing::info!("No policy of RabbitMQ deletes messages any more");
            }
            return true;
        }
        let is_logged =
            self.logged.as_ref().is_some_and(|(logged, at)| *logged == harms && at.elapsed() < LOG_INTERVAL);
        if !is_logged {
            for harm in &harms {
                tracing::error!(
                    harm = %harm,
                    "RabbitMQ deletes accepted messages from {harm}; change the policy, or give these queues one with a \
                     higher priority (docs/operations.md)"
                );
            }
            self.logged = Some((harms, Instant::now()));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use warp::Filter as _;
    use warp::http::StatusCode;

    use super::*;
    use crate::shard::ShardLayout;

    /// A management API that gives each queue this policy, or no permission.
    async fn fake(policy: Arc<Mutex<Option<Value>>>) -> String {
        let queue = warp::path!("api" / "queues" / String / String).and(warp::header("authorization"));
        let answer = queue.map(move |vhost: String, queue: String, authorization: String| {
            assert_eq!((vhost.as_str(), authorization.as_str()), ("%2F", "Basic Z3Vlc3Q6Z3Vlc3Q="));
            let (status, body) = match &*policy.lock() {
                None => (StatusCode::UNAUTHORIZED, json!({"error": "not_authorised"})),
                Some(_) if queue.ends_with(".1") => (StatusCode::NOT_FOUND, json!({})),
                Some(policy) => {
                    (StatusCode::OK, json!({"policy": "all", "effective_policy_definition": policy}))
                }
            };
            warp::reply::with_status(warp::reply::json(&body), status)
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "the task ends with the test's runtime")]
        tokio::spawn(warp::serve(answer).incoming(listener).run());
        url
    }

    fn watch(management_url: &str, on_harmful_policy: OnHarmfulPolicy, health: &Health) -> PolicyWatch {
        let settings = Amqp { management_url: management_url.into(), on_harmful_policy, ..Amqp::default() };
        PolicyWatch::new(&settings, Topology::new("im", ShardLayout::new(2).unwrap()), health).unwrap()
    }

    #[tokio::test]
    async fn a_process_that_refuses_is_ready_while_no_policy_is_harmful() {
        let policy = Arc::new(Mutex::new(None));
        let health = Health::new();
        let mut watch = watch(&fake(Arc::clone(&policy)).await, OnHarmfulPolicy::Refuse, &health);
        assert!(!watch.look().await);
        assert!(health.failing()[0].contains("tag management"), "{:?}", health.failing());
        *policy.lock() = Some(Value::Null);
        for _ in 0..UNCOLLECTED_MAX {
            assert!(!watch.look().await, "not collected yet");
        }
        assert!(health.failing()[0].contains("does not show"), "{:?}", health.failing());
        *policy.lock() = Some(json!([]));
        assert!(watch.look().await);
        assert_eq!(health.failing(), [""; 0]);
        *policy.lock() = Some(json!({"message-ttl": 1000}));
        assert!(!watch.look().await);
        let failing = health.failing();
        assert!(failing[0].contains(".dead by policy all: message-ttl = 1000"), "{failing:?}");
        // What is known stays known while the API is away.
        *policy.lock() = None;
        assert!(!watch.look().await);
        assert_eq!(health.failing(), failing);
        *policy.lock() = Some(json!({"max-length": 5, "overflow": "reject-publish"}));
        assert!(watch.look().await);
        assert_eq!(health.failing(), [""; 0]);
    }

    #[tokio::test]
    async fn a_process_that_warns_stays_ready() {
        let policy = Arc::new(Mutex::new(Some(json!({"max-length": 5}))));
        let health = Health::new();
        let mut watch = watch(&fake(policy).await, OnHarmfulPolicy::Warn, &health);
        let Seen { harmful, harms, .. } = watch.seen().await.unwrap();
        assert_eq!((harmful, harms.len()), (2, 2), "{harms:?}");
        assert!(!watch.look().await);
        assert_eq!(health.failing(), [""; 0]);
    }

    #[test]
    fn refusing_needs_the_api() {
        let settings = Amqp { on_harmful_policy: OnHarmfulPolicy::Refuse, ..Amqp::default() };
        assert!(PolicyWatch::check(&settings).unwrap_err().to_string().contains("amqp.on_harmful_policy"));
        assert!(PolicyWatch::check(&Amqp::default()).is_ok());
    }
}
