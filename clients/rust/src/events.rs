//! The stream of events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::driver::Command;
use crate::event::Event;
use crate::queue::{Queue, Taken};

/// What a client tells its program, in order.
///
/// A message counts as processed when the program asks for the next event. Only then the cursor in the store moves past
/// it, so that a message that the program was working on when it crashed comes again. A program that is slow loses no
/// message and delays nothing else: what does not fit into the queue is pulled from the server when there is room.
///
/// Without this stream (dropped) a client only sends, and keeps the list of conversations.
pub struct Events {
    queue: Arc<Queue>,
    waiting: Option<BoxFuture<'static, ()>>,
    /// The client goes on as long as its events are read.
    _commands: mpsc::Sender<Command>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn new(queue: Arc<Queue>, commands: mpsc::Sender<Command>) -> Self {
        Self { queue, waiting: None, _commands: commands }
    }

    /// The next event; `None` when the client has stopped. It may be dropped at any time without the loss of an event.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let readable = self.queue.readable.notified();
            match self.queue.take() {
                Taken::Event(event) => return Some(event),
                Taken::End => return None,
                Taken::Nothing => readable.await,
            }
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                std::task::ready!(waiting.as_mut().poll(context));
                self.waiting = None;
            }
            match self.queue.take() {
                Taken::Event(event) => return Poll::Ready(Some(event)),
                Taken::End => return Poll::Ready(None),
                Taken::Nothing => {
                    let queue = Arc::clone(&self.queue);
                    self.waiting = Some(Box::pin(async move { queue.readable.notified().await }));
                }
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.queue.close();
    }
}
