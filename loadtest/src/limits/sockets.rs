//! WebSocket frames, with both ends in this process.

use std::sync::Arc;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, accept_async_with_config};

use super::Settings;
use super::part::{Drive, Drivers, Part, measure};
use testbed::client::{Chat, Socket, chat_frame, websocket};
use testbed::stack::Servers;

pub(super) const FRAMES: &str = "frames in and out";
pub(super) const FANNED_OUT: &str = "pushes fanned out";

/// Unanswered frames of each socket.
const WINDOW: usize = 64;
/// Push frames that may wait for one socket.
const PUSHES_WAITING: usize = 16;
/// The size that the gateway and the load generator use.
const BUFFER_BYTES: usize = 4 * 1024;

/// A chat frame in one direction, its reply in the other.
pub(super) async fn frames(settings: &Settings, servers: &Servers) -> anyhow::Result<Part> {
    let drive = Arc::new(Drive::default());
    let mut drivers = Drivers::new();
    let chat = Chat {
        conversation: "group_limits.0".to_owned(),
        msg_id: "limits.0.0-100000".to_owned(),
        content: "x".repeat(settings.size),
        stored: false,
    };
    let frame = Utf8Bytes::from(chat_frame(&chat));
    let reply =
        r#"{"cmd":2,"code":0,"msg_id":"limits.0.0-100000","conversation_id":"group_limits.0","seq":1000}"#;
    let reply = Utf8Bytes::from_static(reply);
    for (client, server) in pairs(settings.sockets).await? {
        drivers.spawn(answer(server, reply.clone()));
        drivers.spawn(ask(client, frame.clone(), Arc::clone(&drive)));
    }
    let what = "a chat frame and its reply, read and written at both ends";
    measure((FRAMES, what), settings.seconds, servers, &drive, drivers).await
}

async fn answer(mut socket: Socket, reply: Utf8Bytes) -> anyhow::Result<()> {
    while let Some(Ok(_)) = socket.next().await {
        socket.feed(Message::Text(reply.clone())).await?;
        while let Some(Some(Ok(_))) = socket.next().now_or_never() {
            socket.feed(Message::Text(reply.clone())).await?;
        }
        if socket.flush().await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn ask(mut socket: Socket, frame: Utf8Bytes, drive: Arc<Drive>) -> anyhow::Result<()> {
    let mut free = WINDOW;
    while drive.goes_on() {
        for _ in 0..std::mem::take(&mut free) {
            socket.feed(Message::Text(frame.clone())).await?;
        }
        socket.flush().await?;
        let mut next = socket.next().await;
        while let Some(Ok(_)) = next {
            free += 1;
            let Some(ready) = socket.next().now_or_never() else { break };
            next = ready;
        }
        anyhow::ensure!(free > 0, "the socket has ended");
        drive.done(free);
    }
    Ok(())
}

/// One shared frame for many sockets.
pub(super) async fn fanned_out(settings: &Settings, servers: &Servers) -> anyhow::Result<Part> {
    let drive = Arc::new(Drive::default());
    let mut drivers = Drivers::new();
    let (mut outboxes, messages) = (Vec::new(), settings.messages_per_push);
    for (client, server) in pairs(settings.sockets).await? {
        let (outbox, frames) = mpsc::channel(PUSHES_WAITING);
        outboxes.push(outbox);
        drivers.spawn(write(server, frames));
        drivers.spawn(read(client, messages, Arc::clone(&drive)));
    }
    let frame = push_frame(settings.size, messages);
    let goes_on = Arc::clone(&drive);
    drivers.spawn(async move {
        while goes_on.goes_on() {
            for outbox in &outboxes {
                outbox.send(frame.clone()).await?;
            }
        }
        Ok(())
    });
    let what = "a message in a push frame that is written to a socket and read from it";
    measure((FANNED_OUT, what), settings.seconds, servers, &drive, drivers).await
}

fn push_frame(size: usize, messages: usize) -> Utf8Bytes {
    let content = "x".repeat(size);
    let message = |n: usize| {
        let id = format!("limits.0.0-{n}");
        format!(
            r#"{{"msg_id":"{id}","seq":{n},"sender_id":"limits.0.0","content":"{content}","msg_type":1,"send_time":1700000000000}}"#
        )
    };
    let messages: Vec<_> = (1..=messages).map(message).collect();
    let last = messages.len();
    let messages = messages.join(",");
    format!(
        r#"{{"cmd":5,"code":0,"conversation_id":"group_limits.0","payload":[{messages}],"next_cursor_seq":{last}}}"#
    )
    .into()
}

async fn write(mut socket: Socket, mut frames: mpsc::Receiver<Utf8Bytes>) -> anyhow::Result<()> {
    while let Some(frame) = frames.recv().await {
        socket.feed(Message::Text(frame)).await?;
        while let Ok(frame) = frames.try_recv() {
            socket.feed(Message::Text(frame)).await?;
        }
        socket.flush().await?;
    }
    Ok(socket.close(None).await?)
}

async fn read(mut socket: Socket, messages: usize, drive: Arc<Drive>) -> anyhow::Result<()> {
    while let Some(Ok(frame)) = socket.next().await {
        if frame.is_text() {
            drive.done(messages);
        }
    }
    Ok(())
}

/// Both ends of `count` sockets.
async fn pairs(count: usize) -> anyhow::Result<Vec<(Socket, Socket)>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let accepted = async {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let config =
                WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
            anyhow::Ok(accept_async_with_config(MaybeTlsStream::Plain(stream), Some(config)).await?)
        };
        let (client, server) = tokio::join!(websocket(&url, None), accepted);
        pairs.push((client?, server?));
    }
    Ok(pairs)
}
