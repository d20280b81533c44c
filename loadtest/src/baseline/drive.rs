//! Senders with windows, each with a connection task that serves its messages in order, as a server does. Both are tasks
//! of this process, connected by channels instead of a socket.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::rounds::Work;

/// Latencies above this count as this, in microseconds.
const LATENCY_MAX: u64 = 120_000_000;
/// Between the making of the senders and the first message.
const LEAD: Duration = Duration::from_millis(200);

/// One message to store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) conversation: String,
    pub(crate) sender: String,
    pub(crate) msg_id: String,
    pub(crate) content: String,
}

/// A server that accepts messages.
pub(super) trait Accept: Send + Sync + 'static {
    /// Returns when the message may be acknowledged.
    fn accept(&self, message: Message) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The measurements of all senders.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) acked: u64,
    /// From the first message to the last acknowledgement.
    pub(super) elapsed: Duration,
    pub(super) latency: Histogram<u64>,
}

struct Request {
    message: Message,
    begun: Instant,
}

struct Sender {
    conversation: String,
    user: String,
    size: usize,
    window: usize,
}

/// The conversation of a group in the run with this name.
pub(super) fn conversation(name: &str, group: usize) -> String {
    format!("group_{name}.{group}")
}

/// Lets all senders send to `server`; `name` makes the conversations of this round unique.
///
/// # Errors
/// If the server fails to accept a message.
pub(super) async fn drive<S: Accept>(server: &Arc<S>, work: &Work, name: &str) -> anyhow::Result<Driven> {
    let start = Instant::now() + LEAD;
    let until = start + Duration::from_secs_f64(work.seconds);
    let mut running = JoinSet::new();
    for group in 0..work.groups {
        for user in work.members(name, group) {
            let conversation = conversation(name, group);
            let sender = Sender { conversation, user, size: work.size, window: work.window };
            let (requests, to_serve) = mpsc::channel(work.window);
            let (replies, answered) = mpsc::channel(work.window);
            let server = Arc::clone(server);
            running.spawn(async move {
                let serving = serve(server, to_serve, replies);
                // A task of its own, so that it runs while the sender prepares messages.
                let serving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(serving));
                let seen = send(sender, requests, answered, start, until).await?;
                serving.await??;
                anyhow::Ok(seen)
            });
        }
    }
    let mut driven = Driven { acked: 0, elapsed: Duration::ZERO, latency: histogram()? };
    while let Some(seen) = running.join_next().await {
        let seen = seen??;
        driven.acked += seen.acked;
        driven.elapsed = driven.elapsed.max(seen.elapsed);
        driven.latency.add(&seen.latency)?;
    }
    anyhow::ensure!(driven.acked > 0, "nothing was acknowledged");
    Ok(driven)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(LATENCY_MAX, 3)?)
}

async fn serve<S: Accept>(
    server: Arc<S>,
    mut requests: mpsc::Receiver<Request>,
    replies: mpsc::Sender<Instant>,
) -> anyhow::Result<()> {
    while let Some(Request { message, begun }) = requests.recv().await {
        server.accept(message).await?;
        if replies.send(begun).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn send(
    sender: Sender,
    requests: mpsc::Sender<Request>,
    mut replies: mpsc::Receiver<Instant>,
    start: Instant,
    until: Instant,
) -> anyhow::Result<Driven> {
    sleep_until(start).await;
    let mut seen = Driven { acked: 0, elapsed: Duration::ZERO, latency: histogram()? };
    let (mut n, mut unanswered) = (0, 0);
    loop {
        while unanswered < sender.window && Instant::now() < until {
            let request = Request { message: sender.message(n), begun: Instant::now() };
            if requests.send(request).await.is_err() {
                // The connection task has failed; its error is returned.
                return Ok(seen);
            }
            n += 1;
            unanswered += 1;
        }
        if unanswered == 0 {
            break;
        }
        let Some(begun) = replies.recv().await else { return Ok(seen) };
        unanswered -= 1;
        seen.acked += 1;
        seen.latency.saturating_record(u64::try_from(begun.elapsed().as_micros())?);
    }
    seen.elapsed = start.elapsed();
    Ok(seen)
}

impl Sender {
    fn message(&self, n: usize) -> Message {
        let mut content = format!("{} in {}: {n} ", self.user, self.conversation);
        let missing = self.size.saturating_sub(content.len());
        content.extend(std::iter::repeat_n('x', missing));
        Message {
            conversation: self.conversation.clone(),
            sender: self.user.clone(),
            msg_id: format!("{}-{n}", self.user),
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct InOrder(parking_lot::Mutex<HashMap<String, usize>>);

    impl Accept for InOrder {
        async fn accept(&self, message: Message) -> anyhow::Result<()> {
            tokio::task::yield_now().await;
            let mut next = self.0.lock();
            let next = next.entry(message.sender.clone()).or_default();
            anyhow::ensure!(message.msg_id == format!("{}-{next}", message.sender), "{}", message.msg_id);
            anyhow::ensure!(message.content.len() == 100, "{} bytes", message.content.len());
            *next += 1;
            Ok(())
        }
    }

    struct Failing;

    impl Accept for Failing {
        async fn accept(&self, _: Message) -> anyhow::Result<()> {
            anyhow::bail!("the disk is full")
        }
    }

    fn work() -> Work {
        Work { groups: 2, senders_per_group: 2, window: 8, size: 100, seconds: 0.05 }
    }

    #[tokio::test]
    async fn every_sender_keeps_its_order_and_every_message_is_answered() {
        let server = Arc::new(InOrder::default());
        let driven = drive(&server, &work(), "t").await.unwrap();
        let served = server.0.lock();
        assert_eq!(served.len(), 4);
        assert_eq!(served.values().sum::<usize>() as u64, driven.acked);
        assert_eq!(driven.latency.len(), driven.acked);
    }

    #[tokio::test]
    async fn a_failure_is_returned() {
        let error = drive(&Arc::new(Failing), &work(), "t").await.unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
    }
}
