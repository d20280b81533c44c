//! What this gateway tells all gateways: positions and memberships that changed through it.

use std::sync::Arc;

use proto::v1;
use shared::amqp::Broker;
use shared::amqp::event_stream::{BEACON_INTERVAL, EventStream};
use tokio::sync::mpsc;

/// Events that may wait to be published; beyond, they are dropped and count as lost.
const WAITING_MAX: usize = 4_096;
/// Events per published batch.
const BATCH_EVENTS_MAX: usize = 256;

/// The entrance. Cheap to clone; never blocks.
#[derive(Debug, Clone)]
pub struct Announcer {
    queue: mpsc::Sender<v1::event::Kind>,
}

impl Announcer {
    /// Queues an event for all gateways, this one included. If there is no room it is lost, as any event may be: what it
    /// says is in the database, and nothing that must hold depends on it.
    pub fn announce(&self, event: v1::event::Kind) {
        if self.queue.try_send(event).is_err() {
            tracing::warn!("an event for the other gateways was dropped: too many wait");
        }
    }
}

#[cfg(test)]
impl Announcer {
    /// Nobody hears what is announced.
    pub(crate) fn unheard() -> Self {
        Self { queue: mpsc::channel(1).0 }
    }
}

/// Returns the entrance and the task that publishes what comes in, until all entrances are gone.
pub fn announcer(broker: Arc<Broker>) -> (Announcer, impl Future<Output = ()> + Send + 'static) {
    let (queue, mut events) = mpsc::channel(WAITING_MAX);
    let task = async move {
        let mut stream = EventStream::new(broker, None);
        let mut gathered = Vec::new();
        loop {
            let idle =
                tokio::time::timeout(BEACON_INTERVAL, events.recv_many(&mut gathered, BATCH_EVENTS_MAX));
            match idle.await {
                Ok(0) => return,
                Ok(_) => {
                    let batch = gathered.drain(..).map(|kind| v1::Event { kind: Some(kind) }).collect();
                    stream.publish(batch).await;
                }
                Err(_) => stream.beacon().await,
            }
        }
    };
    (Announcer { queue }, task)
}
