//! JSON Web Tokens: signed with the HS256 secret, verified with any of the configured keys.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, decode, decode_header, encode};
use parking_lot::RwLock;
use serde::Serialize;
use serde_json::{Map, Value};
use shared::config::ConfigError;
use shared::ids::{UserId, unix_millis};
use shared::shutdown::Shutdown;

use super::claims::{Claims, Expected};
use super::keys::Keys;
use super::revocations::Revoked;
use crate::config::Auth;
use crate::key_files::{Said, reread};
use crate::wire::api_error::ApiError;

/// Longest lifetime of a token that is issued here: a year.
const TTL_S_MAX: u64 = 365 * 86_400;
/// Longest token; one with a user id and times has a few hundred bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How often the key files are read.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Whole seconds since 1970: some libraries refuse a token whose times have a fraction.
#[derive(Serialize)]
struct NewClaims<'a> {
    sub: &'a str,
    iat: i64,
    /// `iat` with milliseconds, so that a token that is issued right after a revocation is valid.
    iat_ms: i64,
    exp: i64,
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

/// Issues a token as `POST /api/admin/tokens` does, for tools of the operator that have the configuration of a gateway. Returns
/// it with its expiry in milliseconds since 1970.
///
/// # Errors
/// A lifetime of 0 or of more than a year, no secret to sign with, or an unusable key file, as one sentence.
pub fn mint(settings: &Auth, user: &UserId, ttl_s: Option<u64>) -> Result<(String, i64), String> {
    let tokens = Tokens::new(settings, Arc::default()).map_err(|error| error.to_string())?;
    tokens.mint(user, ttl_s).map_err(|error| error.message().to_owned())
}

/// Reads the key files as a gateway does at its start.
///
/// # Errors
/// A file contains no key, or cannot be read; the message names the setting.
pub fn check_keys(settings: &Auth) -> Result<(), ConfigError> {
    Keys::read(settings).map(drop)
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
            shutdown.stopping().await;
            return;
        }
        let said = Said {
            unusable: "a key file is unusable: the keys stay as they are",
            usable: "the key files are usable again",
        };
        reread(RELOAD_INTERVAL, &shutdown, said, move || self.reload()).await;
    }

    /// Issues a token for `user`. Returns it with its expiry in milliseconds since 1970.
    ///
    /// # Errors
    /// 400 for a lifetime of 0 or of more than a year; 404 without a secret to sign with.
    pub(crate) fn mint(&self, user: &UserId, ttl_s: Option<u64>) -> Result<(String, i64), ApiError> {
        self.mint_as_of(user, ttl_s, unix_millis())
    }

    /// As [`mint`](Self::mint), with the time of the issue in milliseconds since 1970: when it was verified that the user may
    /// have a token.
    ///
    /// # Errors
    /// As [`mint`](Self::mint).
    pub(crate) fn mint_as_of(
        &self,
        user: &UserId,
        ttl_s: Option<u64>,
        iat_ms: i64,
    ) -> Result<(String, i64), ApiError> {
        let Some(key) = &self.signing else {
            return Err(ApiError::NotFound(
                "this gateway issues no tokens: auth.hs256_secret is not set".to_owned(),
            ));
        };
        let ttl_s = ttl_s.unwrap_or(self.settings.token_ttl_s);
        if !(1..=TTL_S_MAX).contains(&ttl_s) {
            return Err(ApiError::Malformed(format!("ttl_s must be 1 to {TTL_S_MAX}")));
        }
        let iat = iat_ms.div_euclid(1_000);
        // One second more, since `iat` is rounded down: the token is valid for at least `ttl_s`.
        let exp = iat + i64::try_from(ttl_s).unwrap_or(i64::MAX / 2_000) + 1;
        let (aud, iss) = (&self.settings.audience, &self.settings.issuer);
        let claims = NewClaims { sub: user.as_str(), iat, iat_ms, exp, aud, iss };
        let token = encode(&Header::new(Algorithm::HS256), &claims, key).map_err(|error| {
            tracing::error!(%error, "a token was not signed: no token is issued");
            ApiError::Internal
        })?;
        Ok((token, exp * 1_000))
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
        let Ok(header) = decode_header(token) else { return refuse(NOT_A_JWT) };
        // Extensions that the reader must understand (RFC 7515, section 4.1.11): this one understands none.
        if header.crit.is_some() {
            return refuse("the token's header has crit: its extensions are not supported");
        }
        let mut answer = NO_KEY;
        for (algorithm, key) in keys.for_token(&header) {
            match decode::<Map<String, Value>>(token, key, &signature_only(algorithm)) {
                // The signature is valid: no other key gives another result.
                Ok(data) => return self.accept(&data.claims),
                Err(error) => {
                    answer = match error.kind() {
                        ErrorKind::InvalidSignature => WRONG_SIGNATURE,
                        ErrorKind::Json(_) | ErrorKind::Utf8(_) => return refuse(NOT_AN_OBJECT),
                        _ => NOT_A_JWT,
                    }
                }
            }
        }
        refuse(answer)
    }

    /// The login of a token whose signature is valid.
    fn accept(&self, claims: &Map<String, Value>) -> Result<Login, ApiError> {
        let Auth { audience, issuer, .. } = &self.settings;
        let now_ms = unix_millis();
        let claims = Claims::check(claims, Expected { audience, issuer }, now_ms);
        let Claims { user, issued_at_ms, expires_at_ms } = claims.map_err(ApiError::Unauthenticated)?;
        // The clock of the issuer may be ahead: the token is not later than its first use, so that a revocation from now
        // on ends its connections.
        let issued_at_ms = issued_at_ms.unwrap_or(0).min(now_ms);
        if self.revoked.is_revoked(&user, issued_at_ms) {
            return Err(ApiError::Unauthenticated("the token was revoked: log in again".to_owned()));
        }
        Ok(Login { user, issued_at_ms, expires_at_ms: Some(expires_at_ms) })
    }
}

/// Verifies the signature for one algorithm; the algorithm in the token's header is ignored. The claims are checked by
/// [`Claims`].
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

const NOT_A_JWT: &str = "the token is not a JWT with a supported alg: get a new token";
const NOT_AN_OBJECT: &str = "the token's claims are not a JSON object";
const NO_KEY: &str = "no key of this gateway fits the token's alg and kid: get a new token";
const WRONG_SIGNATURE: &str = "the token's signature is not valid: get a new token";

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jsonwebtoken::DecodingKey;
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
    fn a_refusal_says_what_is_wrong_with_the_token() {
        let tokens = by_secret();
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let refused = |token: &str| tokens.check(token).unwrap_err().message().to_owned();
        let claims = json!({"sub": "alice", "exp": unix_millis() / 1000 + 60});
        let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
        assert!(refused(&encode(&header, &claims, &key).unwrap()).contains("crit"));
        let header = Header { crit: Some(Vec::new()), ..Header::new(Algorithm::HS256) };
        assert!(refused(&encode(&header, &claims, &key).unwrap()).contains("crit"));
        let other = EncodingKey::from_secret(b"another secret, also 32 bytes long");
        assert!(refused(&encode(&Header::default(), &claims, &other).unwrap()).contains("signature"));
        let hs512 = encode(&Header::new(Algorithm::HS512), &claims, &key).unwrap();
        assert!(refused(&hs512).contains("alg and kid"));
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.";
        for text in ["", "garbage", "a.b.c", unsigned] {
            assert!(refused(text).contains("not a JWT"), "{text}");
        }
        let list = encode(&Header::default(), &json!(["alice"]), &key).unwrap();
        assert!(refused(&list).contains("not a JSON object"));
        let no_sub = encode(&Header::default(), &json!({"exp": claims["exp"]}), &key).unwrap();
        assert!(refused(&no_sub).contains("sub"));
    }

    #[test]
    fn an_issued_token_has_whole_seconds_and_lives_for_its_ttl() {
        let (token, expires_at) = by_secret().mint(&UserId::parse("alice").unwrap(), Some(60)).unwrap();
        let key = DecodingKey::from_secret(SECRET.as_bytes());
        let claims =
            decode::<Map<String, Value>>(&token, &key, &signature_only(Algorithm::HS256)).unwrap().claims;
        let number = |name: &str| claims[name].as_i64().unwrap_or_else(|| panic!("{name} in {claims:?}"));
        assert_eq!(number("exp") * 1_000, expires_at);
        assert_eq!(number("iat"), number("iat_ms") / 1_000);
        assert!((60_000..=61_000).contains(&(expires_at - number("iat_ms"))));
    }

    #[test]
    fn a_token_from_a_clock_that_is_ahead_counts_as_issued_when_it_is_used() {
        let revoked = Arc::new(Revoked::default());
        let settings = Auth { hs256_secret: SECRET.into(), ..Auth::default() };
        let tokens = Tokens::new(&settings, Arc::clone(&revoked)).unwrap();
        let now = unix_millis() / 1_000;
        let claims = json!({"sub": "alice", "iat": now + 30, "exp": now + 60});
        let token =
            encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        assert!(tokens.check(&token).unwrap().issued_at_ms <= unix_millis());
    }

    #[test]
    fn an_issued_token_is_valid_until_its_expiry_or_revocation() {
        let revoked = Arc::new(Revoked::default());
        let settings = Auth { hs256_secret: SECRET.into(), ..Auth::default() };
        let tokens = Tokens::new(&settings, Arc::clone(&revoked)).unwrap();
        let alice = UserId::parse("alice").unwrap();
        let before = unix_millis();
        let (token, expires_at) = tokens.mint(&alice, Some(60)).unwrap();
        let login = tokens.check(&token).unwrap();
        assert!((before..=unix_millis()).contains(&login.issued_at_ms), "to the millisecond");
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
