//! Hostile clients. Each fails if the gateway does not answer as it should.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use testbed::client::{Chat, Client, chat_frame, pull_frame};

/// How long they attack.
const DURATION: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(15);
/// Close to the largest frame that a gateway accepts.
const FRAME_BYTES: usize = 64 * 1024 - 256;
const READERS: usize = 40;
const CONNECTIONS_PER_SECOND: u64 = 1_000;
const LOGINS: usize = 10_000;
const AT_ONCE: usize = 50;
/// Frames of each kind.
const FRAMES: usize = 40;

/// Runs hostile clients on a thread of their own with the lowest priority: they stand for other machines, and must not take
/// this machine's processor time from the system.
pub(crate) async fn at_low_priority(
    clients: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let run = move || {
        let thread = nix::unistd::gettid().to_string();
        let yielding = std::process::Command::new("renice").args(["-n", "19", "-p", &thread]).output();
        anyhow::ensure!(yielding.is_ok_and(|output| output.status.success()), "renice is not installed");
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(clients)
    };
    // Not one of the runtime's threads, which would keep the low priority for other tasks.
    let (sender, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(run()));
    result.await.context("the thread of the hostile clients has ended")?
}

/// Members of busy groups that never read, and others that read one byte a second.
pub(crate) async fn readers(url: &str, groups: &[String]) -> anyhow::Result<()> {
    let mut lazy = Vec::new();
    for n in 0..READERS {
        let group = groups.get(n % groups.len().max(1)).context("no group")?;
        let user = format!("lazy{n}");
        Client::connect(url, &user).await?.pull(group, 0, 1).await?;
        lazy.push(handshake(url, &format!("user_id={user}"), "").await?.0);
    }
    let deadline = Instant::now() + DURATION;
    while Instant::now() < deadline {
        for stream in lazy.iter_mut().skip(READERS / 2) {
            // There may be nothing to read.
            let _ = timeout(Duration::from_millis(1), stream.read(&mut [0])).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Opens and closes a thousand connections a second: half of them as WebSockets.
pub(crate) async fn connections(url: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for n in 0..CONNECTIONS_PER_SECOND * DURATION.as_secs() {
        sleep_until(begin + Duration::from_micros(1_000_000 / CONNECTIONS_PER_SECOND * n)).await;
        let url = url.to_owned();
        running.spawn(async move {
            if n % 2 == 0 {
                drop(TcpStream::connect(address(&url)).await);
            } else {
                drop(handshake(&url, &format!("user_id=flutter{}", n % 500), "").await);
            }
        });
        while running.try_join_next().is_some() {}
    }
    running.join_all().await;
    Ok(())
}

/// Ten thousand logins with wrong tokens, half of them by the first frame. Each must be refused.
pub(crate) async fn logins(url: &str) -> anyhow::Result<()> {
    let attempts = iter(0..LOGINS).map(|n| async move {
        let token = format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.wrong{n}");
        if n % 2 == 0 {
            let (_, head) = handshake(url, &format!("token={token}"), "").await?;
            anyhow::ensure!(head.starts_with("HTTP/1.1 401"), "a wrong token was answered with {head}");
        } else {
            let mut client = Client::open(url).await?;
            client.send(format!(r#"{{"cmd":1,"payload":{{"token":"{token}"}}}}"#)).await?;
            let ended = client.until_closed().await?;
            let code = ended.0.as_ref().map(|(code, _)| *code);
            anyhow::ensure!(code == Some(4401), "a wrong token was answered with {ended:?}");
        }
        anyhow::Ok(())
    });
    let mut attempts = attempts.buffer_unordered(AT_ONCE);
    while let Some(attempt) = attempts.next().await {
        attempt?;
    }
    Ok(())
}

/// Invalid and oversized frames.
pub(crate) async fn frames(url: &str) -> anyhow::Result<()> {
    let halves = half_frames(url).await?;
    for n in 0..FRAMES {
        nested(url, n).await?;
        not_utf8(url).await?;
        compressed(url).await?;
        giant_ids(url, n).await?;
    }
    drop(halves);
    Ok(())
}

/// Half a frame each. The connections stay open until they are dropped.
async fn half_frames(url: &str) -> anyhow::Result<Vec<TcpStream>> {
    let mut halves = Vec::new();
    for n in 0..FRAMES {
        let (mut stream, _) = handshake(url, &format!("user_id=half{n}"), "").await?;
        // Text, masked, 60,000 bytes long; only the first three follow.
        stream.write_all(&[0x81, 0xfe, 0xea, 0x60, 1, 2, 3, 4, 5, 6, 7]).await?;
        halves.push(stream);
    }
    Ok(halves)
}

async fn nested(url: &str, n: usize) -> anyhow::Result<()> {
    let mut client = Client::connect(url, &format!("nested{n}")).await?;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = FRAME_BYTES / (open.len() + close.len()) - 1;
        let text = format!("{}1{}", open.repeat(deep), close.repeat(deep));
        let answer = client.request(-1, text).await?;
        anyhow::ensure!(answer.code == 400, "nesting was answered with {}", answer.code);
        let inside = format!(
            r#"{{"cmd":2,"conversation_id":"group_1","payload":{}1{}}}"#,
            open.repeat(deep / 2),
            close.repeat(deep / 2)
        );
        client.send(inside).await?;
        let answer = client.next().await?;
        anyhow::ensure!(answer.code == 400, "a nested payload was answered with {}", answer.code);
    }
    Ok(())
}

async fn not_utf8(url: &str) -> anyhow::Result<()> {
    let (mut stream, _) = handshake(url, "user_id=latin", "").await?;
    // Text, masked with zeros: a lone continuation byte.
    stream.write_all(&[0x81, 0x83, 0, 0, 0, 0, b'a', 0x80, b'b']).await?;
    let code = close_code(&mut stream).await?;
    anyhow::ensure!(code == 1007, "text that is not UTF-8 was answered with {code}");
    Ok(())
}

/// Offers compression, which must not be accepted, and uses it anyway.
async fn compressed(url: &str) -> anyhow::Result<()> {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (mut stream, head) = handshake(url, "user_id=squeezed", offer).await?;
    anyhow::ensure!(
        !head.to_ascii_lowercase().contains("sec-websocket-extensions"),
        "it accepted compression: {head}"
    );
    stream.write_all(&[0xc1, 0x81, 0, 0, 0, 0, b'x']).await?;
    let code = close_code(&mut stream).await?;
    anyhow::ensure!(code == 1002, "a compressed frame was answered with {code}");
    Ok(())
}

async fn giant_ids(url: &str, n: usize) -> anyhow::Result<()> {
    let mut client = Client::connect(url, &format!("giant{n}")).await?;
    let giant = "g".repeat(FRAME_BYTES / 2);
    let chat = |conversation: &str, msg_id: &str| {
        let (conversation, msg_id) = (conversation.to_owned(), msg_id.to_owned());
        chat_frame(&Chat { conversation, msg_id, content: "hello".into(), stored: false })
    };
    for (cmd, frame) in [
        (2, chat("group_1", &giant)),
        (2, chat(&format!("group_{giant}"), "m1")),
        (2, chat("group_1", &"\u{1}".repeat(10))),
        (3, pull_frame(&format!("private_{giant}_b"), 0, 1, false)),
    ] {
        let answer = client.request(cmd, frame).await?;
        anyhow::ensure!(answer.code == 400, "a giant id was answered with {}", answer.code);
    }
    client.send_frame(Message::text("x".repeat(70_000))).await?;
    let ended = client.until_closed().await?;
    anyhow::ensure!(
        ended.0.as_ref().is_some_and(|(code, _)| *code == 1009),
        "a giant frame was answered with {ended:?}"
    );
    Ok(())
}

fn address(url: &str) -> &str {
    let host = url.strip_prefix("ws://").unwrap_or(url);
    host.split('/').next().unwrap_or(host)
}

/// Opens a WebSocket by hand, and returns it with the head of the answer.
async fn handshake(url: &str, query: &str, fields: &str) -> anyhow::Result<(TcpStream, String)> {
    let opened = async {
        let mut stream = TcpStream::connect(address(url)).await?;
        let host = address(url);
        let request = format!(
            "GET /ws?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte: frames may follow the head.
            head.push(stream.read_u8().await?);
        }
        Ok((stream, String::from_utf8_lossy(&head).into_owned()))
    };
    timeout(TIMEOUT, opened).await.context("no answer to an upgrade in time")?
}

/// Reads frames of the server until its close frame, and returns its code.
async fn close_code(stream: &mut TcpStream) -> anyhow::Result<u16> {
    let read = async {
        loop {
            let mut head = [0; 2];
            stream.read_exact(&mut head).await?;
            let length = match head[1] & 0x7f {
                126 => usize::from(stream.read_u16().await?),
                127 => usize::try_from(stream.read_u64().await?)?,
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await?;
            if head[0] & 0x0f == 8 {
                return Ok(u16::from_be_bytes([
                    *payload.first().context("no code")?,
                    *payload.get(1).context("no code")?,
                ]));
            }
        }
    };
    timeout(TIMEOUT, read).await.context("no close frame in time")?
}
