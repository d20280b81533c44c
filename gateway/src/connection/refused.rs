//! Connections that may not be opened. They are opened all the same and closed at once, so that a page learns why.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// How long the client may take for its part of the close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends the close frame, and waits for the one of the client. Other frames are read and dropped.
pub(crate) async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    why: CloseFrame,
) {
    let told = async {
        if socket.close(Some(why)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // A client that does not answer is closed without its answer.
    let _ = timeout(CLOSE_TIMEOUT, told).await;
}

#[cfg(test)]
mod tests {
    use futures_util::SinkExt as _;
    use tokio::io::duplex;
    use tokio::time::Instant;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_client_learns_the_code_and_is_closed_after_two_seconds_at_most() {
        for answers in [true, false] {
            let (ours, theirs) = duplex(1 << 16);
            let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
            let mut client = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
            client.send(Message::text(r#"{"cmd":0}"#)).await.unwrap();
            let why = CloseFrame { code: 4403.into(), reason: "this origin is not allowed".into() };
            let (begun, server) = (Instant::now(), tokio::spawn(close(server, why)));
            if answers {
                let Some(Ok(Message::Close(Some(frame)))) = client.next().await else {
                    panic!("no close frame")
                };
                assert_eq!(
                    (u16::from(frame.code), frame.reason.as_str()),
                    (4403, "this origin is not allowed")
                );
                assert!(client.next().await.is_none());
                drop(client);
                server.await.unwrap();
                assert_eq!(begun.elapsed(), Duration::ZERO);
            } else {
                server.await.unwrap();
                assert_eq!(begun.elapsed(), CLOSE_TIMEOUT);
            }
        }
    }
}
