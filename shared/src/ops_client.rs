//! One request to the operator's listener of a process. No redirect is followed, and no key is sent.

use std::future::poll_fn;
use std::pin::Pin;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The status and the body of the answer to `GET path` at `address` (host and port). `add` adds each part of the body to the
/// text, unless that is longer than the caller takes. The caller limits the time.
///
/// # Errors
/// A sentence: no connection, no HTTP, an incomplete answer, no UTF-8, or the error of `add`.
pub async fn get(
    address: &str,
    path: &str,
    add: impl FnMut(&mut Vec<u8>, &[u8]) -> Result<(), String>,
) -> Result<(u16, String), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
    let failed = |error: hyper::Error| format!("the request failed: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = hyper::Request::get(path)
        .header("host", address)
        .header("connection", "close")
        .body(String::new())
        .map_err(|error| format!("the address is unusable: {error}"))?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        Ok((status, text(response.into_body(), add).await?))
    };
    let connection = async move {
        // Its error is the one of the answer, too.
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = connection => never,
    }
}

async fn text(
    mut body: Incoming,
    mut add: impl FnMut(&mut Vec<u8>, &[u8]) -> Result<(), String>,
) -> Result<String, String> {
    let mut text = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| format!("the answer ended early: {error}"))?;
        if let Ok(data) = frame.into_data() {
            add(&mut text, &data)?;
        }
    }
    String::from_utf8(text).map_err(|_| "the answer is not UTF-8".to_owned())
}
