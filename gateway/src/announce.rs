//! Events from this gateway to all gateways: read positions, memberships, blocks, revocations, typing notices.

use std::sync::Arc;

use proto::v1;
use shared::amqp::Broker;
use shared::amqp::event_stream::{BEACON_INTERVAL, EventStream};
use tokio::sync::mpsc;

/// Events that wait to be published; further ones are dropped and count as lost.
const WAITING_MAX: usize = 4_096;
/// Events per published batch.
const BATCH_EVENTS_MAX: usize = 256;

/// Handle to the event publisher. Cheap to clone; never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Announcer {
    queue: mpsc::Sender<v1::event::Kind>,
}

impl Announcer {
    /// Queues an event for all gateways, this one included. If the queue is full the event is lost. Any event may be
    /// lost: its content is in the database, and no guarantee depends on its arrival.
    pub(crate) fn announce(&self, event: v1::event::Kind) {
        if self.queue.try_send(event).is_err() {
            tracing::warn!("the event queue is full: an event for the other gateways is dropped");
        }
    }

    /// A handle, and the events that are announced by it.
    #[cfg(test)]
    pub(crate) fn fake() -> (Self, mpsc::Receiver<v1::event::Kind>) {
        let (queue, events) = mpsc::channel(WAITING_MAX);
        (Self { queue }, events)
    }
}

/// Returns the handle and the task that publishes queued events until all handles are dropped.
pub(crate) fn announcer(broker: Arc<Broker>) -> (Announcer, impl Future<Output = ()> + Send + 'static) {
    let (queue, mut events) = mpsc::channel(WAITING_MAX);
    let task = async move {
        let mut stream = EventStream::new(broker, None);
        let mut queued = Vec::new();
        loop {
            let idle = tokio::time::timeout(BEACON_INTERVAL, events.recv_many(&mut queued, BATCH_EVENTS_MAX));
            match idle.await {
                Ok(0) => return,
                Ok(_) => {
                    let batch = queued.drain(..).map(|kind| v1::Event { kind: Some(kind) }).collect();
                    stream.publish(batch).await;
                }
                Err(_) => stream.beacon().await,
            }
        }
    };
    (Announcer { queue }, task)
}
