//! Signatures of HTTP requests to an app, by the headers of Standard Webhooks (<https://www.standardwebhooks.com>).
//!
//! The receiver computes the same from the id, the time and the body: it knows that the request is ours and new.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;

use crate::ids::unix_millis;

/// The header with the id of a request.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of a request, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures of a request.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// Begins each secret.
const PREFIX: &str = "whsec_";
/// Bytes of a secret.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Secrets at a time: while the receiver changes from one to the next, both sign.
const SECRETS_MAX: usize = 2;

/// The reason why a text is no secret. Its `Display` says what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It is no secret of Standard Webhooks.
    #[error(
        "is not whsec_ and 24 to 64 bytes in base64: write whsec_ before the output of `openssl rand -base64 32`"
    )]
    Malformed,
    /// There are more than two.
    #[error(
        "has more than two secrets: write the new one and, while the receiver changes, the old one behind it"
    )]
    TooMany,
}

/// A new secret: 32 random bytes.
#[must_use]
pub fn new_secret() -> String {
    format!("{PREFIX}{}", STANDARD.encode(rand::random::<[u8; 32]>()))
}

/// Signs requests with one secret, or with two while the receiver changes to another one.
#[derive(Debug, Clone)]
pub struct SigningKey(Vec<hmac::Key>);

impl SigningKey {
    /// Reads one secret, or two with a blank between them.
    ///
    /// # Errors
    /// [`SecretError`]
    pub fn parse(secrets: &str) -> Result<Self, SecretError> {
        let keys: Result<Vec<_>, _> = secrets.split_ascii_whitespace().map(key).collect();
        let keys = keys?;
        match keys.len() {
            0 => Err(SecretError::Malformed),
            1..=SECRETS_MAX => Ok(Self(keys)),
            _ => Err(SecretError::TooMany),
        }
    }

    /// Adds `body` to a request, with its type and with the headers that sign it at this moment.
    pub fn sign(&self, request: RequestBuilder, id: &str, body: Bytes) -> RequestBuilder {
        let timestamp_s = unix_millis() / 1_000;
        request
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, id)
            .header(TIMESTAMP_HEADER, timestamp_s)
            .header(SIGNATURE_HEADER, self.header(id, timestamp_s, &body))
            .body(body)
    }

    /// The value of [`SIGNATURE_HEADER`].
    #[must_use]
    pub fn header(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let signed = [format!("{id}.{timestamp_s}.").as_bytes(), body].concat();
        let signatures = self.0.iter().map(|key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed))));
        signatures.collect::<Vec<_>>().join(" ")
    }
}

fn key(secret: &str) -> Result<hmac::Key, SecretError> {
    let text = secret.strip_prefix(PREFIX).ok_or(SecretError::Malformed)?;
    let bytes = STANDARD.decode(text).map_err(|_| SecretError::Malformed)?;
    if !BYTES.contains(&bytes.len()) {
        return Err(SecretError::Malformed);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_signature_is_that_of_the_specification() {
        let key = SigningKey::parse(SECRET).unwrap();
        let signed = key.header("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_make_two_signatures() {
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let both = SigningKey::parse(&format!("{SECRET} {other}")).unwrap().header("a", 1, b"x");
        let each = [SECRET, &other].map(|one| SigningKey::parse(one).unwrap().header("a", 1, b"x"));
        assert_eq!(both, each.join(" "));
        assert_ne!(each[0], each[1]);
        assert_eq!(SigningKey::parse(&[SECRET; 3].join(" ")).unwrap_err(), SecretError::TooMany);
    }

    #[test]
    fn a_text_that_is_no_secret_is_refused() {
        let (short, long) = (STANDARD.encode([1; 23]), STANDARD.encode([1; 65]));
        for wrong in [
            "",
            " ",
            "whsec_",
            "whsec_!",
            "secret",
            &SECRET[6..],
            &format!("whsec_{short}"),
            &format!("whsec_{long}"),
        ] {
            assert_eq!(SigningKey::parse(wrong).unwrap_err(), SecretError::Malformed, "{wrong}");
        }
    }

    #[test]
    fn a_new_secret_is_another_one_each_time() {
        let (one, other) = (new_secret(), new_secret());
        assert_ne!(one, other);
        assert!(SigningKey::parse(&format!("{one} {other}")).is_ok());
    }

    #[test]
    fn a_key_is_not_shown() {
        let text = format!("{:?}", SigningKey::parse(SECRET).unwrap());
        assert!(!text.contains("MfKQ") && !text.contains("49, 242"), "{text}");
    }
}
