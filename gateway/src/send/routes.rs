//! Where the messages of each shard go.

use shared::conversation::Conversation;
use shared::shard::ShardLayout;
use tokio::sync::mpsc;

/// The queues of one layout.
#[derive(Debug)]
pub(super) struct Routes<T> {
    layout: ShardLayout,
    queues: Vec<mpsc::Sender<T>>,
}

impl<T> Routes<T> {
    /// The routes of `layout`, with the queues behind them, each for up to `queue_max` messages.
    pub(super) fn new(layout: ShardLayout, queue_max: usize) -> (Self, Vec<mpsc::Receiver<T>>) {
        let (queues, receivers) = layout.all().map(|_| mpsc::channel(queue_max)).unzip();
        (Self { layout, queues }, receivers)
    }

    /// The queue for messages of `conversation`.
    pub(super) fn queue(&self, conversation: &Conversation) -> Option<&mpsc::Sender<T>> {
        self.queues.get(usize::from(self.layout.of(conversation).number()))
    }
}
