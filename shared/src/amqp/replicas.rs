//! Whether the durable queues have enough replicas. RabbitMQ gives a quorum queue as many as nodes run when it is declared, at
//! most three, and no more by itself when further nodes join.

use std::time::{Duration, Instant};

/// The fewest replicas with which a queue survives the loss of one node.
const REPLICAS_WANTED: usize = 3;
/// How often too few replicas are logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(3_600);

/// Reports queues with too few replicas.
#[derive(Debug, Default)]
pub(super) struct ReplicaReport {
    /// The number of queues that was logged last, and when.
    logged: Option<(usize, Instant)>,
}

/// How many queues have too few replicas for a cluster of `nodes`, of queues with these numbers of replicas.
fn too_few(nodes: usize, replicas: impl IntoIterator<Item = usize>) -> usize {
    if nodes < REPLICAS_WANTED {
        // A single node has one, and two nodes survive no loss, whatever they have.
        return 0;
    }
    replicas.into_iter().filter(|replicas| *replicas < REPLICAS_WANTED).count()
}

impl ReplicaReport {
    /// Logs and counts the queues that have too few. `prefix` begins their names.
    pub(super) fn report(&mut self, nodes: usize, replicas: impl IntoIterator<Item = usize>, prefix: &str) {
        let queues = too_few(nodes, replicas);
        metrics::gauge!(crate::metrics::FEW_REPLICAS).set(queues as f64);
        let is_logged =
            self.logged.is_some_and(|(logged, at)| logged == queues && at.elapsed() < LOG_INTERVAL);
        match queues {
            0 => {
                if self.logged.take().is_some() {
                    tracing::info!("All queues have three replicas");
                }
            }
            _ if is_logged => {}
            _ => {
                tracing::warn!(
                    queues,
                    nodes,
                    "{queues} queues of RabbitMQ have fewer than {REPLICAS_WANTED} replicas on {nodes} nodes, because fewer ran when they \
                     were declared: the loss of one node may stop them. On each node that lacks them: rabbitmq-queues grow \
                     NODE all --queue-pattern '^{prefix}\\.'"
                );
                self.logged = Some((queues, Instant::now()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nodes_want_three_replicas() {
        for (nodes, replicas, expected) in [
            (1, vec![1, 1], 0),
            (2, vec![1, 2], 0),
            (3, vec![1, 3, 2], 2),
            (3, vec![3, 3], 0),
            (5, vec![3, 5, 1], 1),
            (3, vec![], 0),
        ] {
            assert_eq!(too_few(nodes, replicas.clone()), expected, "{nodes} nodes, {replicas:?}");
        }
    }
}
