//! JSON Web Tokens: signed with the HS256 secret, verified with any of the configured keys.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, decode, decode_header, encode};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use shared::config::ConfigError;
use shared::ids::{UserId, unix_millis};
use shared::shutdown::Shutdown;

use super::keys::Keys;
use super::revocations::Revoked;
use crate::config::Auth;
use crate::wire::api_error::ApiError;

/// Longest lifetime of a token that is issued here: a year.
const TTL_S_MAX: u64 = 365 * 86_400;
/// Longest token; one with a user id and times has a few hundred bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far the clock of the issuer may be ahead, for `nbf`.
const CLOCK_SKEW_MS: i64 = 60_000;
/// How often the key files are read.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Claims {
    sub: String,
    // Seconds since 1970, possibly with a fraction.
    exp: f64,
    iat: Option<f64>,
    nbf: Option<f64>,
}

#[derive(Serialize)]
struct NewClaims<'a> {
    sub: &'a str,
    /// With a fraction, so that a token that is issued right after a revocation is valid.
    iat: f64,
    exp: f64,
    #[serde(skip_serializing_if = "str::is_empty")]
    aud: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    iss: &'a str,
}

/// A verified user, with the times of its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// The user.
    pub(crate) user: UserId,
    /// When the token was issued, in milliseconds since 1970; 0 without `iat`, so that any revocation ends it.
    pub(crate) issued_at_ms: i64,
    /// The expiry in milliseconds since 1970; `None`: it never expires.
    pub(crate) expires_at_ms: Option<i64>,
}

impl Login {
    /// A login without proof, for demos with `auth.mode = "insecure"`.
    #[must_use]
    pub(crate) fn unverified(user: UserId) -> Self {
        Self { user, issued_at_ms: unix_millis(), expires_at_ms: None }
    }
}

/// Issues and verifies tokens. The library compares signatures in constant time; tokens are never logged.
pub(crate) struct Tokens {
    settings: Auth,
    signing: Option<EncodingKey>,
    keys: RwLock<Arc<Keys>>,
    revoked: Arc<Revoked>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Reads the configured keys; without any, every token is refused.
    ///
    /// # Errors
    /// A file contains no key, or cannot be read; the message names the setting.
    pub(crate) fn new(settings: &Auth, revoked: Arc<Revoked>) -> Result<Self, ConfigError> {
        let secret = settings.hs256_secret.expose().as_bytes();
        Ok(Self {
            signing: (!secret.is_empty()).then(|| EncodingKey::from_secret(secret)),
            keys: RwLock::new(Arc::new(Keys::read(settings)?)),
            settings: settings.clone(),
            revoked,
        })
    }

    /// Reads the key files again. If one is unusable, the keys stay as they are.
    ///
    /// # Errors
    /// A file is unusable; the message names the setting.
    pub(crate) fn reload(&self) -> Result<(), ConfigError> {
        let keys = Keys::read(&self.settings)?;
        *self.keys.write() = Arc::new(keys);
        Ok(())
    }

    /// Reads the key files periodically until the stop, so that keys can be added and removed without a restart.
    pub(crate) async fn follow_files(self: Arc<Self>, shutdown: Shutdown) {
        if self.settings.public_key_file.as_os_str().is_empty()
            && self.settings.jwks_file.as_os_str().is_empty()
        {
            return;
        }
        let mut last_error = None;
        while shutdown.sleep(RELOAD_INTERVAL).await {
            let this = Arc::clone(&self);
            let read = tokio::task::spawn_blocking(move || this.reload()).await;
            let error = read.ok().and_then(Result::err).map(|error| error.to_string());
            if error != last_error {
                match &error {
                    Some(error) => {
                        tracing::error!(%error, "a key file is unusable: the keys stay as they are")
                    }
                    None => tracing::info!("the key files are usable again"),
                }
                last_error = error;
            }
        }
    }

    /// Issues a token for `user`. Returns it with its expiry in milliseconds since 1970.
    ///
    /// # Errors
    /// 400 for a lifetime of 0 or of more than a year; 404 without a secret to sign with.
    pub(crate) fn mint(&self, user: &UserId, ttl_s: Option<u64>) -> Result<(String, i64), ApiError> {
        let Some(key) = &self.signing else {
            return Err(ApiError::NotFound(
                "this gateway issues no tokens: auth.hs256_secret is not set".to_owned(),
            ));
        };
        let ttl_s = ttl_s.unwrap_or(self.settings.token_ttl_s);
        if !(1..=TTL_S_MAX).contains(&ttl_s) {
            return Err(ApiError::Malformed(format!("ttl_s must be 1 to {TTL_S_MAX}")));
        }
        let now = unix_millis();
        let expires_at = now + i64::try_from(ttl_s).unwrap_or(i64::MAX / 2_000) * 1_000;
        let (aud, iss) = (&self.settings.audience, &self.settings.issuer);
        let claims = NewClaims { sub: user.as_str(), iat: seconds(now), exp: seconds(expires_at), aud, iss };
        let token = encode(&Header::new(Algorithm::HS256), &claims, key).map_err(|error| {
            tracing::error!(%error, "a token was not signed: no token is issued");
            ApiError::Internal
        })?;
        Ok((token, expires_at))
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// 401, with a message that says whether a new token helps.
    pub(crate) fn check(&self, token: &str) -> Result<Login, ApiError> {
        let refuse = |why: &str| Err(ApiError::Unauthenticated(why.to_owned()));
        let keys = Arc::clone(&self.keys.read());
        if keys.is_empty() {
            return refuse("this gateway accepts no tokens: it has no key to verify them with");
        }
        if token.len() > TOKEN_BYTES_MAX {
            return refuse("the token is longer than 8 KiB");
        }
        let Ok(header) = decode_header(token) else { return refuse(NOT_VALID) };
        let mut answer = NOT_VALID;
        for (algorithm, key) in keys.for_token(&header) {
            match decode::<Claims>(token, key, &self.validation(algorithm)) {
                Ok(data) => return self.accept(&data.claims),
                // The signature is valid: no other key gives another result.
                Err(error) => match error.kind() {
                    ErrorKind::ExpiredSignature => return refuse("the token has expired: get a new one"),
                    ErrorKind::InvalidAudience => return refuse("the token is for another audience (aud)"),
                    ErrorKind::InvalidIssuer => return refuse("the token is from another issuer (iss)"),
                    ErrorKind::MissingRequiredClaim(_) => answer = "the token lacks exp, sub, aud or iss",
                    _ => {}
                },
            }
        }
        refuse(answer)
    }

    /// The checks for one algorithm; the algorithm in the token's header is ignored.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp", "sub"];
        validation.leeway = 0;
        validation.validate_aud = !self.settings.audience.is_empty();
        if validation.validate_aud {
            validation.set_audience(&[&self.settings.audience]);
            required.push("aud");
        }
        if !self.settings.issuer.is_empty() {
            validation.set_issuer(&[&self.settings.issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    /// Checks that the library does not do.
    fn accept(&self, claims: &Claims) -> Result<Login, ApiError> {
        let refuse = |why: &str| Err(ApiError::Unauthenticated(why.to_owned()));
        let Ok(user) = UserId::parse(&claims.sub) else { return refuse("the token's sub is not a user id") };
        if claims.nbf.is_some_and(|nbf| millis(nbf) > unix_millis() + CLOCK_SKEW_MS) {
            return refuse("the token is not valid yet (nbf)");
        }
        let issued_at_ms = claims.iat.map_or(0, millis);
        if self.revoked.is_revoked(&user, issued_at_ms) {
            return refuse("the token was revoked: log in again");
        }
        Ok(Login { user, issued_at_ms, expires_at_ms: Some(millis(claims.exp)) })
    }
}

const NOT_VALID: &str = "the token is not valid: get a new one";

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^52")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/keys");

    fn key(file: &str) -> Vec<u8> {
        std::fs::read(PathBuf::from(KEYS).join(file)).unwrap()
    }

    fn tokens(settings: Auth) -> Tokens {
        Tokens::new(&settings, Arc::default()).unwrap()
    }

    fn by_secret() -> Tokens {
        tokens(Auth { hs256_secret: SECRET.into(), ..Auth::default() })
    }

    fn by_file(public_key: &str, jwks: &str) -> Tokens {
        let file = |name: &str| if name.is_empty() { PathBuf::new() } else { PathBuf::from(KEYS).join(name) };
        tokens(Auth { public_key_file: file(public_key), jwks_file: file(jwks), ..Auth::default() })
    }

    fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey) -> String {
        let exp = unix_millis() / 1000 + 60;
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        encode(&header, &json!({"sub": "alice", "exp": exp}), key).unwrap()
    }

    fn token(header: Algorithm, secret: &str, sub: &str, exp_s: i64) -> String {
        let exp = unix_millis() / 1000 + exp_s;
        let claims = json!({"sub": sub, "exp": exp});
        encode(&Header::new(header), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn only_a_current_token_with_the_right_signature_and_algorithm_is_valid() {
        let tokens = by_secret();
        assert_eq!(
            tokens.check(&token(Algorithm::HS256, SECRET, "alice", 60)).unwrap().user.as_str(),
            "alice"
        );
        for bad in [
            token(Algorithm::HS256, "another secret, also 32 bytes long", "alice", 60),
            token(Algorithm::HS512, SECRET, "alice", 60),
            token(Algorithm::HS256, SECRET, "al ice", 60),
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.".into(),
            "garbage".into(),
            String::new(),
            "x".repeat(10_000),
        ] {
            assert_eq!(tokens.check(&bad).unwrap_err().code(), 401, "{bad}");
        }
        let expired = tokens.check(&token(Algorithm::HS256, SECRET, "alice", -1)).unwrap_err();
        assert!(expired.message().contains("expired"));
    }

    #[test]
    fn a_public_key_verifies_its_own_algorithm_and_is_no_secret() {
        let rsa = EncodingKey::from_rsa_pem(&key("rsa_private.pem")).unwrap();
        let ed = EncodingKey::from_ed_pem(&key("ed25519_private.pem")).unwrap();
        let (by_rsa, by_ed) = (by_file("rsa_public.pem", ""), by_file("ed25519_public.pem", ""));
        assert!(by_rsa.check(&signed(Algorithm::RS256, Some("any"), &rsa)).is_ok());
        assert!(by_ed.check(&signed(Algorithm::EdDSA, None, &ed)).is_ok());
        assert_eq!(by_rsa.check(&signed(Algorithm::EdDSA, None, &ed)).unwrap_err().code(), 401);
        assert_eq!(by_rsa.check(&signed(Algorithm::RS384, None, &rsa)).unwrap_err().code(), 401);
        // The public key is public: as an HS256 secret it would let anyone sign.
        let public = EncodingKey::from_secret(&key("rsa_public.pem"));
        assert_eq!(by_rsa.check(&signed(Algorithm::HS256, None, &public)).unwrap_err().code(), 401);
        let private =
            Auth { public_key_file: PathBuf::from(KEYS).join("rsa_private.pem"), ..Auth::default() };
        let refused = Tokens::new(&private, Arc::default()).unwrap_err().to_string();
        assert!(refused.contains("auth.public_key_file"), "{refused}");
    }

    #[test]
    fn a_missing_key_file_is_named() {
        let settings = Auth { jwks_file: "/nowhere.json".into(), ..Auth::default() };
        let refused = Tokens::new(&settings, Arc::default()).unwrap_err().to_string();
        assert!(refused.contains("auth.jwks_file: /nowhere.json"), "{refused}");
    }

    #[test]
    fn kid_selects_a_key_of_the_key_set() {
        let rsa = EncodingKey::from_rsa_pem(&key("rsa_private.pem")).unwrap();
        let ed = EncodingKey::from_ed_pem(&key("ed25519_private.pem")).unwrap();
        let tokens = by_file("", "jwks.json");
        assert!(tokens.check(&signed(Algorithm::RS256, Some("rsa-1"), &rsa)).is_ok());
        assert!(tokens.check(&signed(Algorithm::EdDSA, Some("ed-1"), &ed)).is_ok());
        assert!(tokens.check(&signed(Algorithm::EdDSA, None, &ed)).is_ok());
        assert!(tokens.check(&signed(Algorithm::RS256, Some("rsa-0"), &rsa)).is_err());
        assert!(tokens.check(&signed(Algorithm::RS256, Some("ed-1"), &rsa)).is_err());
    }

    #[test]
    fn changed_key_files_are_used_and_unusable_ones_are_ignored() {
        let path = std::env::temp_dir().join(format!("im-keys-{:x}", rand::random::<u64>()));
        std::fs::write(&path, key("rsa_public.pem")).unwrap();
        let tokens = tokens(Auth { public_key_file: path.clone(), ..Auth::default() });
        let rsa = EncodingKey::from_rsa_pem(&key("rsa_private.pem")).unwrap();
        let ed = EncodingKey::from_ed_pem(&key("ed25519_private.pem")).unwrap();
        std::fs::write(&path, "half a k").unwrap();
        assert!(tokens.reload().unwrap_err().to_string().contains("auth.public_key_file"));
        assert!(tokens.check(&signed(Algorithm::RS256, None, &rsa)).is_ok());
        std::fs::write(&path, key("ed25519_public.pem")).unwrap();
        tokens.reload().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(tokens.check(&signed(Algorithm::EdDSA, None, &ed)).is_ok());
        assert!(tokens.check(&signed(Algorithm::RS256, None, &rsa)).is_err());
    }

    #[test]
    fn audience_issuer_and_times_are_checked_if_configured() {
        let settings = Auth {
            hs256_secret: SECRET.into(),
            audience: "chat".to_owned(),
            issuer: "https://id.example".to_owned(),
            ..Auth::default()
        };
        let tokens = tokens(settings);
        let now = unix_millis() / 1000;
        let check = |claims: serde_json::Value| {
            let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
            tokens.check(&token.unwrap()).map(|login| login.issued_at_ms).map_err(|refusal| refusal.code())
        };
        let (aud, iss, exp) = ("chat", "https://id.example", now + 60);
        assert_eq!(check(json!({"sub": "a", "exp": exp, "aud": aud, "iss": iss, "iat": 5})), Ok(5_000));
        assert_eq!(check(json!({"sub": "a", "exp": exp, "aud": ["x", aud], "iss": iss})), Ok(0));
        for bad in [
            json!({"sub": "a", "exp": exp, "aud": "mail", "iss": iss}),
            json!({"sub": "a", "exp": exp, "aud": aud, "iss": "https://evil.example"}),
            json!({"sub": "a", "exp": exp, "aud": aud}),
            json!({"sub": "a", "exp": exp, "iss": iss}),
            json!({"sub": "a", "aud": aud, "iss": iss}),
            json!({"exp": exp, "aud": aud, "iss": iss}),
            json!({"sub": "a", "exp": exp, "aud": aud, "iss": iss, "nbf": now + 3_600}),
        ] {
            assert_eq!(check(bad.clone()), Err(401), "{bad}");
        }
        let (own, _) = tokens.mint(&UserId::parse("alice").unwrap(), None).unwrap();
        assert!(tokens.check(&own).is_ok());
        // Without a configured audience, a token may be for any.
        let any = json!({"sub": "a", "exp": exp, "aud": "mail"});
        let any = encode(&Header::default(), &any, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        assert!(by_secret().check(&any).is_ok());
    }

    #[test]
    fn an_issued_token_is_valid_until_its_expiry_or_revocation() {
        let revoked = Arc::new(Revoked::default());
        let settings = Auth { hs256_secret: SECRET.into(), ..Auth::default() };
        let tokens = Tokens::new(&settings, Arc::clone(&revoked)).unwrap();
        let alice = UserId::parse("alice").unwrap();
        let (token, expires_at) = tokens.mint(&alice, Some(60)).unwrap();
        let login = tokens.check(&token).unwrap();
        assert_eq!((&login.user, login.expires_at_ms), (&alice, Some(expires_at)));
        for ttl_s in [0, TTL_S_MAX + 1, u64::MAX] {
            assert_eq!(tokens.mint(&alice, Some(ttl_s)).unwrap_err().code(), 400);
        }
        assert_eq!(super::tests::tokens(Auth::default()).mint(&alice, None).unwrap_err().code(), 404);
        revoked.insert(&alice, login.issued_at_ms - 1);
        assert!(tokens.check(&token).is_ok(), "it was issued after the revocation");
        revoked.insert(&alice, login.issued_at_ms);
        assert!(tokens.check(&token).unwrap_err().message().contains("revoked"));
    }
}
