//! JSON Web Tokens: made with the HS256 secret, checked with any of the configured keys.

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

/// Longest life of a token that is made here: a year.
const TTL_S_MAX: u64 = 365 * 86_400;
/// Longer ones are not looked at: a JWT with a user id and times has a few hundred bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far ahead the clock of a token's issuer may be, for `nbf`.
const CLOCK_SKEW_MS: i64 = 60_000;
/// How often the key files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Claims {
    sub: String,
    // Seconds since 1970; each may have a fraction.
    exp: f64,
    iat: Option<f64>,
    nbf: Option<f64>,
}

#[derive(Serialize)]
struct NewClaims<'a> {
    sub: &'a str,
    /// With a fraction, so that a token made right after a revocation is known to be younger.
    iat: f64,
    exp: f64,
    #[serde(skip_serializing_if = "str::is_empty")]
    aud: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    iss: &'a str,
}

/// Whom a client has proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: UserId,
    /// When the token was made, in milliseconds since 1970; 0 if it does not say, so that any revocation ends it.
    pub issued_at_ms: i64,
    /// Until when it is good, in milliseconds since 1970; `None`: without end.
    pub expires_at_ms: Option<i64>,
}

impl Login {
    /// By saying so, now: for demos.
    #[must_use]
    pub fn believed(user: UserId) -> Self {
        Self { user, issued_at_ms: unix_millis(), expires_at_ms: None }
    }
}

/// Makes and checks tokens. Signatures are compared in constant time by the library; tokens are never logged.
pub struct Tokens {
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
    /// With the configured keys; without any, every token is refused.
    ///
    /// # Errors
    /// A file that holds no key; names the setting.
    pub fn new(settings: &Auth, revoked: Arc<Revoked>) -> Result<Self, ConfigError> {
        let secret = settings.hs256_secret.expose().as_bytes();
        Ok(Self {
            signing: (!secret.is_empty()).then(|| EncodingKey::from_secret(secret)),
            keys: RwLock::new(Arc::new(Keys::read(settings)?)),
            settings: settings.clone(),
            revoked,
        })
    }

    /// Takes the key files as they are now. With one that cannot be used, the keys stay as they were.
    ///
    /// # Errors
    /// Names the setting.
    pub fn reload(&self) -> Result<(), ConfigError> {
        let keys = Keys::read(&self.settings)?;
        *self.keys.write() = Arc::new(keys);
        Ok(())
    }

    /// Takes key files again and again, so that keys can be added and removed without a restart.
    pub async fn follow_files(self: Arc<Self>, shutdown: Shutdown) {
        if self.settings.public_key_file.as_os_str().is_empty()
            && self.settings.jwks_file.as_os_str().is_empty()
        {
            return;
        }
        let mut wrong = None;
        while shutdown.sleep(RELOAD_INTERVAL).await {
            let this = Arc::clone(&self);
            let read = tokio::task::spawn_blocking(move || this.reload()).await;
            let error = read.ok().and_then(Result::err).map(|error| error.to_string());
            if error != wrong {
                match &error {
                    Some(error) => tracing::error!(%error, "keys stay as they were"),
                    None => tracing::info!("the key files can be used again"),
                }
                wrong = error;
            }
        }
    }

    /// A token for `user`, and when it expires, in milliseconds since 1970.
    ///
    /// # Errors
    /// 400 for a life of nothing or of more than a year; 404 where there is no secret to sign with.
    pub fn mint(&self, user: &UserId, ttl_s: Option<u64>) -> Result<(String, i64), ApiError> {
        let Some(key) = &self.signing else {
            return Err(ApiError::NotFound(
                "this gateway makes no tokens: auth.hs256_secret is not set".to_owned(),
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
            tracing::error!(%error, "a token cannot be signed");
            ApiError::Internal
        })?;
        Ok((token, expires_at))
    }

    /// Whom `token` was made for.
    ///
    /// # Errors
    /// 401, with a sentence that says whether a new token would help.
    pub fn check(&self, token: &str) -> Result<Login, ApiError> {
        let refuse = |why: &str| Err(ApiError::Unauthenticated(why.to_owned()));
        let keys = Arc::clone(&self.keys.read());
        if keys.is_empty() {
            return refuse("this gateway takes no tokens: it has no key to check them with");
        }
        if token.len() > TOKEN_BYTES_MAX {
            return refuse("the token is longer than 8 KiB");
        }
        let Ok(header) = decode_header(token) else { return refuse(NOT_VALID) };
        let mut answer = NOT_VALID;
        for (algorithm, key) in keys.for_token(&header) {
            match decode::<Claims>(token, key, &self.validation(algorithm)) {
                Ok(data) => return self.accept(&data.claims),
                // The signature was good: no other key will say more.
                Err(error) => match error.kind() {
                    ErrorKind::ExpiredSignature => return refuse("the token has expired: get a new one"),
                    ErrorKind::InvalidAudience => return refuse("the token is for another audience (aud)"),
                    ErrorKind::InvalidIssuer => return refuse("the token is of another issuer (iss)"),
                    ErrorKind::MissingRequiredClaim(_) => answer = "the token lacks exp, sub, aud or iss",
                    _ => {}
                },
            }
        }
        refuse(answer)
    }

    /// Only this algorithm, whatever the token's header says.
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

    /// What the library does not look at.
    fn accept(&self, claims: &Claims) -> Result<Login, ApiError> {
        let refuse = |why: &str| Err(ApiError::Unauthenticated(why.to_owned()));
        let Ok(user) = UserId::parse(&claims.sub) else { return refuse("the token's sub is no user id") };
        if claims.nbf.is_some_and(|nbf| millis(nbf) > unix_millis() + CLOCK_SKEW_MS) {
            return refuse("the token is not good yet (nbf)");
        }
        let issued_at_ms = claims.iat.map_or(0, millis);
        if self.revoked.is_revoked(&user, issued_at_ms) {
            return refuse("the token was revoked: log in again");
        }
        Ok(Login { user, issued_at_ms, expires_at_ms: Some(millis(claims.exp)) })
    }
}

const NOT_VALID: &str = "the token is not valid: get a new one";

#[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are far below 2^52
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

#[allow(clippy::cast_possible_truncation)] // saturates
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
    fn only_a_fresh_token_with_the_right_signature_and_algorithm_counts() {
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
    fn a_public_key_checks_its_own_algorithm_and_is_no_secret() {
        let rsa = EncodingKey::from_rsa_pem(&key("rsa_private.pem")).unwrap();
        let ed = EncodingKey::from_ed_pem(&key("ed25519_private.pem")).unwrap();
        let (by_rsa, by_ed) = (by_file("rsa_public.pem", ""), by_file("ed25519_public.pem", ""));
        assert!(by_rsa.check(&signed(Algorithm::RS256, Some("any"), &rsa)).is_ok());
        assert!(by_ed.check(&signed(Algorithm::EdDSA, None, &ed)).is_ok());
        assert_eq!(by_rsa.check(&signed(Algorithm::EdDSA, None, &ed)).unwrap_err().code(), 401);
        assert_eq!(by_rsa.check(&signed(Algorithm::RS384, None, &rsa)).unwrap_err().code(), 401);
        // Everyone knows the public key, and could sign with it if it were taken for a secret.
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
    fn a_key_set_is_chosen_from_by_kid() {
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
    fn changed_files_count_at_once_and_broken_ones_not_at_all() {
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
    fn audience_issuer_and_times_are_checked_where_they_are_asked_for() {
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
        // Where nobody asks for an audience, a token may be for any.
        let any = json!({"sub": "a", "exp": exp, "aud": "mail"});
        let any = encode(&Header::default(), &any, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        assert!(by_secret().check(&any).is_ok());
    }

    #[test]
    fn what_is_made_here_is_good_until_its_end_or_its_revocation() {
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
        revoked.note(&alice, login.issued_at_ms - 1);
        assert!(tokens.check(&token).is_ok(), "it is younger than that");
        revoked.note(&alice, login.issued_at_ms);
        assert!(tokens.check(&token).unwrap_err().message().contains("revoked"));
    }
}
