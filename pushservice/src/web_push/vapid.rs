//! Voluntary application server identification (RFC 8292): a token that says which server sends.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde::Serialize;

use crate::base64url;
use crate::public_key::P256PublicKey;

/// Validity of a token. At most 24 hours are allowed (RFC 8292 §2); half of it leaves room for clocks that differ.
const VALID_S: u64 = 12 * 3_600;
/// A token is replaced when it is valid for less than this.
const REMAINING_S_MIN: u64 = 3_600;
/// Most tokens that are kept. Endpoints come from devices, and could name any number of origins; beyond the limit all are
/// dropped, and made again when they are needed.
const TOKENS_MAX: usize = 1_024;

/// A new key pair for VAPID.
pub struct VapidKeyPair {
    /// The private key in base64url: an entry of `push.vapid_keys`.
    pub private: String,
    /// The public key: the `applicationServerKey` of browsers.
    pub public: P256PublicKey,
}

impl fmt::Debug for VapidKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VapidKeyPair({})", self.public)
    }
}

impl VapidKeyPair {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, Unspecified> {
        let key = PrivateKey::generate(&ECDH_P256)?;
        let private = AsBigEndian::<aws_lc_rs::encoding::EcPrivateKeyBin<'_>>::as_be_bytes(&key)?;
        let public = P256PublicKey::from_bytes(key.compute_public_key()?.as_ref()).ok_or(Unspecified)?;
        Ok(Self { private: base64url::encode(private.as_ref()), public })
    }
}

/// A key that signs tokens.
pub(super) struct VapidKey {
    public: P256PublicKey,
    signing: EncodingKey,
}

impl VapidKey {
    /// The private key in base64url; `None`: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let private = base64url::decode(text)?;
        let public = PrivateKey::from_private_key(&ECDH_P256, &private).ok()?.compute_public_key().ok()?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &private,
            public.as_ref(),
        );
        let pkcs8 = pair.ok()?.to_pkcs8v1().ok()?;
        let signing = EncodingKey::from_ec_der(pkcs8.as_ref());
        Some(Self { public: P256PublicKey::from_bytes(public.as_ref())?, signing })
    }

    pub(super) fn public(&self) -> &P256PublicKey {
        &self.public
    }
}

#[derive(Debug, Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: u64,
    sub: &'a str,
}

#[derive(Debug)]
struct Token {
    /// The value of the header `Authorization`.
    authorization: String,
    expires_s: u64,
}

/// Tokens by key and origin: one is used for all messages to the same push service.
#[derive(Debug, Default)]
pub(super) struct VapidTokens(Mutex<HashMap<(P256PublicKey, String), Token>>);

impl VapidTokens {
    /// `Authorization` for messages to `origin` (RFC 8292 §3), signed with `key`, at `now_s`.
    ///
    /// # Errors
    /// The library's.
    pub(super) fn authorization(
        &self,
        key: &VapidKey,
        origin: &str,
        subject: &str,
        now_s: u64,
    ) -> jsonwebtoken::errors::Result<String> {
        let mut tokens = self.0.lock();
        let name = (key.public, origin.to_owned());
        if let Some(token) = tokens.get(&name)
            && token.expires_s >= now_s + REMAINING_S_MIN
            // The clock was set back.
            && token.expires_s <= now_s + VALID_S
        {
            return Ok(token.authorization.clone());
        }
        let expires_s = now_s + VALID_S;
        let claims = Claims { aud: origin, exp: expires_s, sub: subject };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key.signing)?;
        let authorization = format!("vapid t={token}, k={}", key.public);
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(name, Token { authorization: authorization.clone(), expires_s });
        Ok(authorization)
    }

    /// Makes a new token for the next message to `origin`.
    pub(super) fn discard(&self, key: &VapidKey, origin: &str) {
        self.0.lock().remove(&(key.public, origin.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::Value;

    use super::*;

    fn claims(authorization: &str) -> Value {
        let (token, key) = authorization.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
        let key = DecodingKey::from_ec_der(P256PublicKey::parse(key).unwrap().as_bytes());
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode(token, &key, &validation).unwrap().claims
    }

    #[test]
    fn a_token_is_signed_for_its_origin_and_used_until_shortly_before_its_end() {
        let pair = VapidKeyPair::generate().unwrap();
        let key = VapidKey::parse(&pair.private).unwrap();
        assert_eq!(key.public, pair.public);
        let tokens = VapidTokens::default();
        let at = |origin: &str, now_s| tokens.authorization(&key, origin, "mailto:a@b.c", now_s).unwrap();
        let first = at("https://push.example", 1_000_000);
        let expected =
            serde_json::json!({"aud": "https://push.example", "exp": 1_043_200, "sub": "mailto:a@b.c"});
        assert_eq!(claims(&first), expected);
        assert_eq!(at("https://push.example", 1_000_000 + 11 * 3_600), first);
        assert_ne!(at("https://other.example", 1_000_000), first);
        let second = at("https://push.example", 1_000_001 + 11 * 3_600);
        assert_eq!(claims(&second)["exp"], 1_000_001 + 23 * 3_600);
        // A clock that was set back must not make a token that is valid for over 24 hours.
        assert_eq!(claims(&at("https://push.example", 900_000))["exp"], 900_000 + 12 * 3_600);
        tokens.discard(&key, "https://push.example");
        assert_eq!(claims(&at("https://push.example", 900_007))["exp"], 900_007 + 12 * 3_600);
    }

    #[test]
    fn the_number_of_tokens_is_limited() {
        let key = VapidKey::parse(&VapidKeyPair::generate().unwrap().private).unwrap();
        let tokens = VapidTokens::default();
        for origin in 0..TOKENS_MAX + 3 {
            tokens.authorization(&key, &format!("https://{origin}"), "mailto:a@b.c", 0).unwrap();
        }
        assert_eq!(tokens.0.lock().len(), 3);
    }

    #[test]
    fn an_unusable_private_key_is_refused() {
        let pair = VapidKeyPair::generate().unwrap();
        for text in ["", "x", &pair.private[1..], &pair.public.to_string(), &base64url::encode([0; 32])] {
            assert!(VapidKey::parse(text).is_none(), "{text}");
        }
        assert!(!format!("{pair:?}").contains(&pair.private));
    }
}
