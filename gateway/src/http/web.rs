//! The web client: the files of `clients/web/dist`, which are part of the binary.
//!
//! Names of files do not change from one version to the next, and browsers revalidate them at each load: behind a load
//! balancer, during an upgrade, the page of one gateway gets its script from another one that may be older.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{EmbeddedFile, RustEmbed};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use super::head;

#[derive(RustEmbed)]
#[folder = "../clients/web/dist"]
struct Bundle;

/// The pages and their paths, beside the files' own names.
const PAGES: [(&str, &str); 2] = [("/", "index.html"), ("/ops", "ops.html")];
/// Smaller files are sent as they are.
const GZIP_BYTES_MIN: usize = 1_024;
/// What a page may load and do: scripts, styles and connections of its own origin, and pictures, also from where files are.
/// `worker-src` is for the service worker, which shows notifications.
/// Nothing is inline, and no other page may frame it.
fn policy(file_origins: &[String]) -> String {
    let files: String = file_origins.iter().map(|origin| format!(" {origin}")).collect();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'{files}; \
         img-src 'self' data: blob:{files}; media-src 'self' blob:{files}; manifest-src 'self'; worker-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
/// Fields of every answer.
const FIELDS: [(HeaderName, &str); 7] = [
    (CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (REFERRER_POLICY, "no-referrer"),
    (VARY, "accept-encoding"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
];

/// All files by their paths. They are compressed at the first request.
static SITE: LazyLock<HashMap<String, File>> = LazyLock::new(site);

/// A file that is ready to be sent.
struct File {
    content_type: &'static str,
    /// Weak, since it is the same for the compressed bytes.
    etag: String,
    plain: Bytes,
    /// `None` if it is not smaller.
    gzip: Option<Bytes>,
}

/// The page and its files, unless the web client is disabled. Other paths are rejected as unknown. `file_origins`: where
/// clients send and get files, beside the gateway.
pub(super) fn route(is_enabled: bool, file_origins: &[String]) -> BoxedFilter<(Response,)> {
    // Of origins: characters of headers only.
    let policy = HeaderValue::from_str(&policy(file_origins));
    let policy = policy.unwrap_or(HeaderValue::from_static("default-src 'none'"));
    // Not `path::full` or `path::tail`, which panic where a target is no path, as that of `CONNECT`.
    let top = warp::path::end().map(String::new);
    let file_at_top = warp::path::param().and(warp::path::end());
    let file_below = warp::path::param().and(warp::path::param()).and(warp::path::end());
    let file_below = file_below.map(|folder: String, name: String| format!("{folder}/{name}"));
    top.or(file_at_top)
        .unify()
        .or(file_below)
        .unify()
        .and(warp::method())
        .and(head::headers())
        .and_then(move |path: String, method: Method, headers: HeaderMap| {
            let policy = policy.clone();
            async move {
                let file = file(is_enabled && method != Method::CONNECT, &format!("/{path}"));
                let answer = file.map(|file| file.answer(&method, &headers, policy));
                answer.ok_or_else(warp::reject::not_found)
            }
        })
        .boxed()
}

fn file(is_enabled: bool, path: &str) -> Option<&'static File> {
    if is_enabled { SITE.get(path) } else { None }
}

fn site() -> HashMap<String, File> {
    let file = |name: &str| Bundle::get(name).map(|embedded| File::new(name, embedded));
    let named = Bundle::iter()
        .filter(|name| !PAGES.iter().any(|(_, page)| page == name))
        .filter_map(|name| Some((format!("/{name}"), file(&name)?)));
    let pages = PAGES.iter().filter_map(|(path, name)| Some(((*path).to_owned(), file(name)?)));
    named.chain(pages).collect()
}

impl File {
    fn new(name: &str, embedded: EmbeddedFile) -> Self {
        let mut etag = String::from("W/\"");
        for byte in &embedded.metadata.sha256_hash()[..16] {
            // Writing to a string does not fail.
            let _ = write!(etag, "{byte:02x}");
        }
        etag.push('"');
        let plain = match embedded.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        };
        let gzip = if plain.len() >= GZIP_BYTES_MIN { compressed(&plain) } else { None };
        Self { content_type: content_type(name), etag, plain, gzip }
    }

    fn answer(&self, method: &Method, headers: &HeaderMap, policy: HeaderValue) -> Response {
        let mut response = match *method {
            // hyper sends the head only where it was asked for.
            Method::GET | Method::HEAD => self.content(headers),
            Method::OPTIONS => empty(StatusCode::NO_CONTENT),
            _ => empty(StatusCode::METHOD_NOT_ALLOWED),
        };
        let fields = response.headers_mut();
        if !matches!(*method, Method::GET | Method::HEAD) {
            fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        fields.insert(CONTENT_SECURITY_POLICY, policy);
        for (name, value) in FIELDS {
            fields.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn content(&self, headers: &HeaderMap) -> Response {
        let mut response = if matches_any(headers, &self.etag) {
            empty(StatusCode::NOT_MODIFIED)
        } else {
            let gzip = self.gzip.as_ref().filter(|_| accepts_gzip(headers));
            let mut response = Response::new(gzip.unwrap_or(&self.plain).clone().into());
            let fields = response.headers_mut();
            fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            if gzip.is_some() {
                fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        };
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            response.headers_mut().insert(ETAG, etag);
        }
        response
    }
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn compressed(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).ok()?;
    let bytes = encoder.finish().ok()?;
    (bytes.len() < plain.len()).then(|| bytes.into())
}

/// Whether `If-None-Match` names this version (RFC 9110, section 13.1.2: weak comparison).
fn matches_any(headers: &HeaderMap, etag: &str) -> bool {
    let opaque = etag.trim_start_matches("W/");
    elements(headers, IF_NONE_MATCH).any(|known| known == "*" || known.trim_start_matches("W/") == opaque)
}

/// Whether `Accept-Encoding` has gzip, and not with a weight of 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    elements(headers, ACCEPT_ENCODING).any(|element| {
        let (coding, parameters) = element.split_once(';').unwrap_or((element, ""));
        let weight =
            parameters.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        coding.trim().eq_ignore_ascii_case("gzip") && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// The elements of a list, which may extend over several header lines.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn get(path: &str, fields: &[(HeaderName, &str)]) -> Response {
        SITE[path].answer(&Method::GET, &headers(fields), own_policy())
    }

    fn own_policy() -> HeaderValue {
        HeaderValue::from_str(&policy(&[])).unwrap()
    }

    #[test]
    fn pictures_may_come_from_where_files_are() {
        let with_store = policy(&["https://s3.example".to_owned()]);
        for part in
            ["connect-src 'self' https://s3.example;", "img-src 'self' data: blob: https://s3.example;"]
        {
            assert!(with_store.contains(part), "{with_store}");
        }
    }

    #[test]
    fn the_page_and_its_files_are_served_with_their_types_and_the_policy() {
        for (path, content_type) in [
            ("/", "text/html; charset=utf-8"),
            ("/ops", "text/html; charset=utf-8"),
            ("/web/ops.js", "text/javascript; charset=utf-8"),
            ("/web/ops.css", "text/css; charset=utf-8"),
            ("/web/licenses.txt", "text/plain; charset=utf-8"),
            ("/web/app.js", "text/javascript; charset=utf-8"),
            ("/web/app.css", "text/css; charset=utf-8"),
            ("/web/icon.svg", "image/svg+xml"),
            ("/web/icon-192.png", "image/png"),
            ("/web/app.webmanifest", "application/manifest+json"),
            // At the top, since a service worker is for the pages below its own path.
            ("/sw.js", "text/javascript; charset=utf-8"),
        ] {
            let response = get(path, &[]);
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(response.headers()[CONTENT_TYPE], content_type);
            for (name, value) in FIELDS {
                assert_eq!(response.headers()[&name], value, "{path}");
            }
            assert!(!response.headers().contains_key(CONTENT_ENCODING), "{path}");
        }
        assert!(!SITE.contains_key("/index.html"), "one address for one page");
        assert!(!SITE.contains_key("/ops.html"), "one address for one page");
    }

    #[test]
    fn the_page_has_no_inline_script_or_style() {
        for (path, _) in PAGES {
            let page = std::str::from_utf8(&SITE[path].plain).unwrap();
            for tag in page.split('<').filter(|tag| tag.starts_with("script")) {
                assert!(tag.contains(" src=\"/web/") && tag.ends_with('>'), "{tag}");
            }
            assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("://"), "{page}");
        }
    }

    #[test]
    fn a_known_version_is_not_sent_again() {
        let etag = get("/", &[]).headers()[ETAG].to_str().unwrap().to_owned();
        let strong = etag.trim_start_matches("W/").to_owned();
        for known in [&*etag, &*strong, "*", &format!("\"x\", {etag}")] {
            let response = get("/", &[(IF_NONE_MATCH, known)]);
            assert_eq!(response.status(), 304, "{known}");
            assert_eq!(response.headers()[ETAG], etag);
        }
        assert_eq!(get("/", &[(IF_NONE_MATCH, "\"x\"")]).status(), 200);
    }

    #[test]
    fn files_are_compressed_for_clients_that_accept_it() {
        for (accepted, is_compressed) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, br", false),
            ("br, xgzip", false),
            ("", false),
        ] {
            let response = get("/web/app.js", &[(ACCEPT_ENCODING, accepted)]);
            assert_eq!(response.headers().contains_key(CONTENT_ENCODING), is_compressed, "{accepted}");
        }
        let File { plain, gzip, .. } = &SITE["/web/app.js"];
        let mut unpacked = Vec::new();
        let packed = gzip.as_deref().unwrap();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut unpacked).unwrap();
        assert!(unpacked == *plain && packed.len() < plain.len() / 2);
    }

    #[test]
    fn other_methods_are_refused() {
        for (method, status) in [(Method::HEAD, 200), (Method::OPTIONS, 204), (Method::POST, 405)] {
            let response = SITE["/"].answer(&method, &HeaderMap::new(), own_policy());
            assert_eq!(response.status().as_u16(), status, "{method}");
            assert_eq!(response.headers().contains_key(ALLOW), status != 200, "{method}");
        }
    }

    #[test]
    fn other_paths_and_those_of_a_disabled_web_client_are_unknown() {
        for (is_enabled, path) in [(true, "/web/other.js"), (true, "/web/"), (true, "//"), (false, "/")] {
            assert!(file(is_enabled, path).is_none(), "{is_enabled} {path}");
        }
        assert!(file(true, "/").is_some());
    }
}
