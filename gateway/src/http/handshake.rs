//! The rules of the WebSocket handshake (RFC 6455, section 4.2.1).

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::http::header::{
    ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use super::answer::error;
use super::head::single;

/// The length of a decoded key.
const KEY_BYTES: usize = 16;
/// Bits beyond the last byte do not change it.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The handshake of a client, which may be accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    /// The value of `Sec-WebSocket-Accept`.
    accept: HeaderValue,
}

/// Why a request is no handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHandshake {
    Method,
    NoUpgrade,
    Version,
    Key,
}

impl Handshake {
    pub(super) fn check(method: &Method, headers: &HeaderMap) -> Result<Self, NoHandshake> {
        if *method != Method::GET {
            return Err(NoHandshake::Method);
        }
        let has = |name, token: &str| tokens(headers, name).any(|one| one.eq_ignore_ascii_case(token));
        if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
            return Err(NoHandshake::NoUpgrade);
        }
        let mut versions = tokens(headers, SEC_WEBSOCKET_VERSION).peekable();
        if versions.peek().is_none() || !versions.all(|version| version == "13") {
            return Err(NoHandshake::Version);
        }
        let key = single(headers, SEC_WEBSOCKET_KEY).ok().flatten().ok_or(NoHandshake::Key)?;
        let is_valid = BASE64.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
        let accept =
            HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| NoHandshake::Key)?;
        if is_valid { Ok(Self { accept }) } else { Err(NoHandshake::Key) }
    }

    /// 101
    pub(super) fn response(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let fields = response.headers_mut();
        fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
        fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        response
    }
}

impl NoHandshake {
    pub(super) fn response(self) -> Response {
        let (status, message) = match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is opened with GET"),
            Self::NoUpgrade => (
                StatusCode::BAD_REQUEST,
                "this is a WebSocket: send Connection: Upgrade and Upgrade: websocket, with HTTP/1.1",
            ),
            Self::Version => (StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13"),
            Self::Key => (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key must be one base64 value of 16 bytes"),
        };
        let mut response = error(status, message);
        let fields = response.headers_mut();
        match self {
            Self::Method => {
                fields.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Self::Version => {
                fields.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
                fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            }
            Self::NoUpgrade | Self::Key => {}
        }
        response
    }
}

/// The elements of a list, which may extend over several header lines (RFC 9110, section 5.3).
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn check(fields: &[(&'static str, &str)]) -> Result<Handshake, NoHandshake> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        Handshake::check(&Method::GET, &headers)
    }

    /// A valid handshake, with other values of one header.
    fn with(name: &'static str, values: &[&str]) -> Result<Handshake, NoHandshake> {
        let valid = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        let others = valid.into_iter().filter(|(other, _)| *other != name);
        check(&others.chain(values.iter().map(|value| (name, *value))).collect::<Vec<_>>())
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let handshake = with("", &[]).unwrap();
        assert_eq!(handshake.response().headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn lists_extend_over_lines_and_are_compared_regardless_of_case() {
        for values in [
            &["upgrade"][..],
            &["keep-alive, Upgrade"],
            &["keep-alive", "UPGRADE"],
            &["Upgrade", "keep-alive"],
            &["a,,b , upgrade,"],
        ] {
            assert!(with("connection", values).is_ok(), "{values:?}");
        }
        for values in [&["WebSocket"][..], &["h2c, websocket"], &["h2c", "websocket"]] {
            assert!(with("upgrade", values).is_ok(), "{values:?}");
        }
        for (name, values) in [
            ("connection", &[][..]),
            ("connection", &["keep-alive"]),
            ("connection", &["upgrades"]),
            ("connection", &["Up grade"]),
            ("upgrade", &[]),
            ("upgrade", &["websockets"]),
            ("upgrade", &["h2c"]),
        ] {
            assert_eq!(with(name, values), Err(NoHandshake::NoUpgrade), "{name} {values:?}");
        }
    }

    #[test]
    fn only_version_13_is_accepted() {
        assert!(with("sec-websocket-version", &["13", "13"]).is_ok());
        for values in [&[][..], &[""], &["12"], &["8, 13"], &["13", "8"], &["0x13"]] {
            let refused = with("sec-websocket-version", values).unwrap_err();
            assert_eq!(refused, NoHandshake::Version, "{values:?}");
            let response = refused.response();
            assert_eq!(
                (response.status().as_u16(), &response.headers()[SEC_WEBSOCKET_VERSION]),
                (426, &"13".parse().unwrap())
            );
        }
    }

    #[test]
    fn a_key_is_one_value_of_16_bytes() {
        // The last one has bits beyond the last byte.
        for key in
            [KEY, "AAAAAAAAAAAAAAAAAAAAAA==", "/+//////////////////////AA==", "AAAAAAAAAAAAAAAAAAAAAB=="]
        {
            let bytes = BASE64.decode(key).map(|bytes| bytes.len());
            assert_eq!(with("sec-websocket-key", &[key]).is_ok(), bytes == Ok(16), "{key}");
        }
        assert!(with("sec-websocket-key", &["AAAAAAAAAAAAAAAAAAAAAB=="]).is_ok());
        for values in [
            &[][..],
            &[""],
            &["x"],
            &["AAAAAAAAAAAAAAAAAAAAAA"],
            &["AAAAAAAAAAAAAAAAAAAA"],
            &["AAAAAAAAAAAAAAAAAAAAAAA="],
            &["AAAAAAAAAAAAAAAAAAAAAAAA"],
            &["AAAA AAAAAAAAAAAAAAAAAA=="],
            &["-_AAAAAAAAAAAAAAAAAAAA=="],
            &[KEY, KEY],
            &["dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="],
        ] {
            assert_eq!(with("sec-websocket-key", values), Err(NoHandshake::Key), "{values:?}");
        }
    }

    #[test]
    fn only_get_opens_a_websocket() {
        for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
            let refused = Handshake::check(&method, &HeaderMap::new()).unwrap_err();
            assert_eq!(refused, NoHandshake::Method);
            assert_eq!(refused.response().headers()[ALLOW], "GET");
        }
    }
}
