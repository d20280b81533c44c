//! `/files`: the bytes of files, by signed links.
//!
//! What is served never runs as a page of this site: all but pictures, sounds and films is saved, and a browser that shows
//! it all the same does so in a sandbox without scripts.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use filestore::store::ByteStream;
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt as _};
use shared::metrics::{GATEWAY_TRANSFER_BYTES, GATEWAY_TRANSFERS};
use shared::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::time::timeout;
use warp::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE,
    ORIGIN, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::{Reply as _, Response};
use warp::{Filter, Rejection};

use super::answer::{Answer, done, error, options, refusal};
use super::client_address::client_address;
use super::cors;
use super::deps::Deps;
use super::head;
use super::query;
use super::refusals::{method_not_allowed, not_found};
use crate::files::{Download, Files};
use crate::listen::{Peer, network};
use crate::wire::api_error::ApiError;

/// How long a client may pause within its bytes.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Pieces of a file that wait for a slow client.
const PIECES_AHEAD: usize = 2;
/// How long a cache that serves others keeps a file: a recalled one is gone there after this time.
const SHARED_CACHE_S: u32 = 300;

struct Request<B> {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    peer: Option<Peer>,
    body: B,
}

/// The route.
pub(super) fn route(deps: Arc<Deps>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path("files")
        .and(warp::method())
        .and(warp::path::full())
        .and(query::text())
        .and(head::headers())
        .and(warp::ext::optional::<Peer>())
        .and(warp::body::stream())
        .then(move |method, path: FullPath, query, headers, peer: Option<Peer>, body| {
            let request = Request { method, path: path.as_str().to_owned(), query, headers, peer, body };
            let deps = Arc::clone(&deps);
            async move { serve(&deps, request).await }
        })
}

async fn serve<B: Buf>(
    deps: &Deps,
    request: Request<impl Stream<Item = Result<B, warp::Error>> + Send + Unpin>,
) -> Response {
    if let Err(refused) = deps.settings.cross_origin.check(&request.headers) {
        return refusal(&refused);
    }
    let origin = request.headers.get(ORIGIN).cloned();
    let is_options = request.method == Method::OPTIONS;
    let mut response = match cors::preflight(&request.method, &request.headers) {
        Some(preflight) => preflight,
        None => match answer(deps, request).await {
            Ok(response) => response,
            Err(ApiError::MethodNotAllowed { allowed }) if is_options => options(allowed),
            Err(refused) => refusal(&refused),
        },
    };
    cors::allow(&mut response, origin.as_ref());
    response
}

async fn answer<B: Buf>(
    deps: &Deps,
    request: Request<impl Stream<Item = Result<B, warp::Error>> + Send + Unpin>,
) -> Answer {
    let Some(files) = &deps.files else { return Err(not_found()) };
    let address = network(client_address(request.peer, &request.headers, &deps.settings.trusted_proxies));
    match (&request.method, filestore::link::is_upload(&request.path)) {
        (&Method::PUT, true) => {
            let target = files.upload_target(&request.path, &request.query)?;
            check_length(&request.headers, target.size)?;
            let _place = files.place(address).await?;
            let transfer = Transfer::begin();
            receive(files, &target, request.body, &transfer).await
        }
        (&Method::GET | &Method::HEAD, false) => {
            let download = files.download(&request.path, &request.query).await?;
            let place = files.place(address).await?;
            send(deps, files, download, &request, place).await
        }
        (_, true) => Err(method_not_allowed("PUT")),
        (_, false) => Err(method_not_allowed("GET")),
    }
}

/// Counts a transfer while it goes on.
struct Transfer;

impl Transfer {
    fn begin() -> Self {
        metrics::gauge!(GATEWAY_TRANSFERS).increment(1.0);
        Self
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        metrics::gauge!(GATEWAY_TRANSFERS).decrement(1.0);
    }
}

/// The length is known from the head: nothing is written of another one.
fn check_length(headers: &HeaderMap, size: u64) -> Result<(), ApiError> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length == size => Ok(()),
        Some(length) if length > size => {
            Err(ApiError::TooLarge(format!("{length} bytes are announced here, and {size} are expected")))
        }
        Some(length) => {
            Err(ApiError::Malformed(format!("{length} bytes are announced here, and {size} are expected")))
        }
        None => Err(ApiError::malformed("Content-Length is missing: send it, without Transfer-Encoding")),
    }
}

async fn receive<B: Buf>(
    files: &Files,
    target: &filestore::link::UploadTarget,
    mut body: impl Stream<Item = Result<B, warp::Error>> + Send + Unpin,
    _: &Transfer,
) -> Answer {
    let mut writer = files.receive(target).await?;
    let failed = |error| crate::files::store_failed(&error);
    let mut received = 0;
    loop {
        let next = timeout(PAUSE_MAX, body.next()).await;
        let late = |_| ApiError::RequestTimeout("no byte came for 30 seconds".to_owned());
        let Some(piece) = next.map_err(late)? else { break };
        let mut piece = piece.map_err(|_| ApiError::malformed("the body ended early"))?;
        received += piece.remaining() as u64;
        if received > target.size {
            return Err(ApiError::TooLarge(format!("the body is longer than {} bytes", target.size)));
        }
        while piece.has_remaining() {
            let length = piece.chunk().len();
            writer.write(piece.chunk()).await.map_err(failed)?;
            piece.advance(length);
        }
    }
    if received < target.size {
        return Err(ApiError::malformed("the body ended early"));
    }
    writer.finish().await.map_err(failed)?;
    metrics::counter!(GATEWAY_TRANSFER_BYTES, "direction" => "in").increment(received);
    done()
}

async fn send<B>(
    deps: &Deps,
    files: &Files,
    download: Download,
    request: &Request<B>,
    place: crate::files::TransferPlace,
) -> Answer {
    let Download { target, size } = download;
    // The bytes under a name never change.
    let etag = format!("\"{}-{}\"", target.object_id, target.variant.name());
    if matches(&request.headers, IF_NONE_MATCH, &etag) {
        return Ok(with_headers(
            warp::reply::with_status("", StatusCode::NOT_MODIFIED).into_response(),
            &target,
            &etag,
        ));
    }
    let is_whole = request.headers.contains_key(IF_RANGE) && !matches(&request.headers, IF_RANGE, &etag);
    let asked = request.headers.get(RANGE).filter(|_| !is_whole);
    let range = match asked.map(|asked| parse_range(asked, size)) {
        None | Some(Asked::All) => None,
        Some(Asked::Part(range)) => Some(range),
        Some(Asked::Outside) => {
            let mut response = error(StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such bytes");
            insert(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    let sent = range.clone().unwrap_or(0..size);
    let mut response = if request.method == Method::HEAD || sent.is_empty() {
        Response::default()
    } else {
        let bytes = files.bytes(&target, sent.clone()).await?;
        warp::reply::stream(pumped(bytes, place, &deps.shutdown)).into_response()
    };
    insert(&mut response, CONTENT_LENGTH, &(sent.end - sent.start).to_string());
    if let Some(range) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        insert(&mut response, CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1));
    }
    Ok(with_headers(response, &target, &etag))
}

/// The bytes, read a little ahead of the client. The place is free when the client has them or has gone.
fn pumped(
    mut bytes: ByteStream,
    place: crate::files::TransferPlace,
    shutdown: &Shutdown,
) -> impl Stream<Item = Result<Bytes, filestore::StoreError>> + Send + Sync + 'static {
    let (sender, mut receiver) = mpsc::channel(PIECES_AHEAD);
    shutdown.spawn(async move {
        let (_place, _transfer) = (place, Transfer::begin());
        while let Some(piece) = bytes.next().await {
            if let Ok(piece) = &piece {
                let out = metrics::counter!(GATEWAY_TRANSFER_BYTES, "direction" => "out");
                out.increment(piece.len() as u64);
            }
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    poll_fn(move |context| receiver.poll_recv(context))
}

fn with_headers(mut response: Response, target: &filestore::link::LinkTarget, etag: &str) -> Response {
    let fields: [(HeaderName, &str); 6] = [
        (ACCEPT_RANGES, "bytes"),
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_TYPE, &target.content_type),
        (ETAG, etag),
    ];
    for (name, value) in fields {
        insert(&mut response, name, value);
    }
    insert(&mut response, CONTENT_DISPOSITION, &filestore::link::disposition(target));
    let cached = format!("public, max-age=3600, s-maxage={SHARED_CACHE_S}, immutable");
    insert(&mut response, CACHE_CONTROL, &cached);
    response
}

fn insert(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn matches(headers: &HeaderMap, name: HeaderName, etag: &str) -> bool {
    let tags = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|tags| tags.split(',')).any(|tag| matches!(tag.trim(), "*") || tag.trim() == etag)
}

/// What a header `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// It is not understood, or has several ranges: the whole file is a right answer.
    All,
    Part(Range<u64>),
    /// Beyond the end.
    Outside,
}

/// Reads `bytes=first-last`, `bytes=first-` or `bytes=-count` (RFC 9110, section 14.2).
fn parse_range(header: &HeaderValue, size: u64) -> Asked {
    let ends = header.to_str().ok().and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = ends else { return Asked::All };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        _ => return Asked::All,
    };
    if range.is_empty() { Asked::Outside } else { Asked::Part(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood() {
        let asked = |text: &str| parse_range(&HeaderValue::from_str(text).unwrap(), 100);
        for (text, expected) in [
            ("bytes=0-9", Asked::Part(0..10)),
            ("bytes=90-", Asked::Part(90..100)),
            ("bytes=90-1000", Asked::Part(90..100)),
            ("bytes=-10", Asked::Part(90..100)),
            ("bytes=-1000", Asked::Part(0..100)),
            ("bytes=100-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=9-0", Asked::All),
            ("bytes=0-1,5-6", Asked::All),
            ("bytes=x-y", Asked::All),
            ("bytes=-", Asked::All),
            ("lines=0-9", Asked::All),
        ] {
            assert_eq!(asked(text), expected, "{text}");
        }
    }

    #[test]
    fn another_length_than_the_signed_one_is_refused_before_the_body() {
        let length = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static(text));
            check_length(&headers, 10).map_err(|error| error.code())
        };
        assert_eq!((length("10"), length("11"), length("9")), (Ok(()), Err(413), Err(400)));
        assert_eq!(check_length(&HeaderMap::new(), 10).unwrap_err().code(), 400);
    }
}
