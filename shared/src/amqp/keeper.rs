//! Keeps a connection to RabbitMQ up, and what was declared on it in place, whether it is used or not.
//!
//! A gateway that is not ready gets no clients, so nothing that only a publish repairs would ever be repaired.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::broker::{Broker, BrokerError, Link};
use crate::backoff::Backoff;
use crate::health::Check;
use crate::shutdown::Shutdown;

/// How often exchanges and queues are looked at.
const TOPOLOGY_INTERVAL: Duration = Duration::from_secs(5);
/// Longest that one look at all of them may take: a queue whose leader is lost may never answer.
const TOPOLOGY_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest time between two declarations of the topology.
const DECLARE_PAUSE: Duration = Duration::from_secs(1);

impl Broker {
    /// Keeps the connection up until the stop. An exchange or queue that is reported missing, by whatever use of the
    /// connection, is declared again. With `topology`, exchanges and queues are looked at every five seconds, and the
    /// check passes while all of them exist and answer.
    pub async fn keep_up(self: Arc<Self>, topology: Option<Check>, stop: Shutdown) {
        let keeping = async {
            let mut backoff = Backoff::dependency();
            loop {
                // A failure is logged by the check of the connection.
                if self.ensure_connected().await.is_ok() {
                    backoff.reset();
                    self.keep_topology(topology.as_ref()).await;
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        };
        stop.run_until_stopped(keeping).await;
    }

    /// Returns when the connection is lost.
    async fn keep_topology(&self, check: Option<&Check>) {
        let mut link = self.link();
        let mut lost =
            std::pin::pin!(async move { link.wait_for(|link| *link == Link::Down).await.map(drop) });
        loop {
            if let Some(check) = check {
                match self.look_at_topology().await {
                    Ok(()) => check.pass(),
                    Err(error) => {
                        check.fail(error.to_string());
                        if error.is_not_found() {
                            self.suspect_topology();
                        }
                    }
                }
            }
            tokio::select! {
                _ = &mut lost => return,
                () = self.suspected() => {
                    match self.declare_again().await {
                        Ok(()) => tracing::warn!("An exchange or a queue was missing in RabbitMQ; all are declared again"),
                        Err(error) => tracing::warn!(
                            %error,
                            "Cannot declare exchanges and queues that are missing in RabbitMQ; retrying"
                        ),
                    }
                    tokio::time::sleep(DECLARE_PAUSE).await;
                }
                () = tokio::time::sleep(TOPOLOGY_INTERVAL) => {}
            }
        }
    }

    async fn look_at_topology(&self) -> Result<(), BrokerError> {
        let look = async {
            let channel = self.channel().await?;
            Ok(self.topology().check(&channel).await?)
        };
        timeout(TOPOLOGY_TIMEOUT, look).await.unwrap_or(Err(BrokerError::Timeout))
    }
}
