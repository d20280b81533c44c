//! The pipelines of all shards, and their replacement when the number of shards changes.
//!
//! Messages that have no sequence number yet move to the pipelines of the next layout, in their order, before any message that
//! comes later. So the messages of one connection to one conversation keep their order.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::amqp::Broker;
use shared::shard::ShardLayout;
use shared::shard_follower::Follow;
use shared::shard_state::ShardState;
use shared::shutdown::Shutdown;
use tokio::sync::{oneshot, watch};

use super::admission::Sends;
use super::gate::Gate;
use super::numbering::Numbering;
use super::pipeline::{Pipeline, Unnumbered};
use super::pipeline_context::PipelineContext;
use super::shard_publisher::ShardPublisher;

/// Starts and replaces the pipelines of a gateway.
#[derive(Debug)]
pub(crate) struct Pipelines {
    sends: Arc<Sends>,
    gate: Arc<Gate>,
    numbering: Numbering,
    context: PipelineContext,
    publishing: Arc<Broker>,
    tasks: Shutdown,
    layout: Option<ShardLayout>,
    /// Ends the running pipelines.
    handover: watch::Sender<bool>,
    /// What each of them had left, by shard.
    left: Vec<oneshot::Receiver<Unnumbered>>,
}

impl Pipelines {
    /// Without pipelines: the first state starts them.
    #[must_use]
    pub(crate) fn new(
        sends: Arc<Sends>,
        numbering: Numbering,
        context: PipelineContext,
        publishing: Arc<Broker>,
        tasks: Shutdown,
    ) -> Self {
        let gate = Arc::clone(context.gate());
        let handover = watch::Sender::new(false);
        Self { sends, gate, numbering, context, publishing, tasks, layout: None, handover, left: Vec::new() }
    }

    async fn follow(&mut self, state: ShardState) {
        self.publishing.topology().follow(state);
        let Some(layout) = state.publishes() else { return self.gate.hold().await };
        if self.layout != Some(layout) {
            self.gate.hold().await;
            self.replace(layout).await;
        }
        self.gate.open();
    }

    /// Replaces the pipelines. The gate is closed, so none of them has a batch in flight.
    async fn replace(&mut self, layout: ShardLayout) {
        std::mem::replace(&mut self.handover, watch::Sender::new(false)).send_replace(true);
        let mut left = Vec::new();
        for one in self.left.drain(..) {
            // A pipeline that panicked stops the process.
            left.extend(one.await);
        }
        let queues = self.sends.route(layout, left.into_iter().flat_map(Unnumbered::into_messages));
        for (shard, queue) in layout.all().zip(queues) {
            let publisher = ShardPublisher::new(shard, Arc::clone(&self.publishing));
            let pipeline =
                Pipeline::new(shard, queue, self.numbering.clone(), publisher, self.context.clone());
            let (give, take) = oneshot::channel();
            let (handover, stop) = (self.handover.subscribe(), self.tasks.clone());
            let running = async move {
                if let Some(unnumbered) = pipeline.run(handover).await {
                    // The other end is waiting for it.
                    let _ = give.send(unnumbered);
                    // An essential task that ends is a failure of the process.
                    stop.stopping().await;
                }
            };
            self.tasks.spawn_essential(format!("pipeline of shard {shard}"), running);
            self.left.push(take);
        }
        self.layout = Some(layout);
    }
}

impl Follow for Pipelines {
    fn apply(&mut self, state: ShardState) -> BoxFuture<'_, ()> {
        self.follow(state).boxed()
    }

    fn looked(&mut self, is_read: bool) {
        self.gate.looked(is_read);
    }
}
