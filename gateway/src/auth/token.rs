//! JSON Web Tokens.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use shared::ids::{UserId, unix_millis};

use crate::config::Auth;
use crate::wire::refusal::Refusal;

/// Longest life of a token that is made here: a year.
const TTL_S_MAX: u64 = 365 * 86_400;

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970; may have a fraction.
    exp: f64,
}

#[derive(Serialize)]
struct NewClaims<'a> {
    sub: &'a str,
    /// With a fraction, so that a token made right after a revocation is known to be younger.
    iat: f64,
    exp: f64,
}

/// Whom a client has proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: UserId,
    /// Until when that is good, in milliseconds since 1970; `None`: without end.
    pub expires_at_ms: Option<i64>,
}

/// Makes and checks tokens. Signatures are compared in constant time by the library; tokens are never logged.
pub struct Tokens {
    keys: Option<(DecodingKey, EncodingKey)>,
    validation: Validation,
    ttl_s: u64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// HS256 with the configured secret; without one every token is refused.
    #[must_use]
    pub fn new(settings: &Auth) -> Self {
        let secret = settings.hs256_secret.expose().as_bytes();
        let keys = (!secret.is_empty())
            .then(|| (DecodingKey::from_secret(secret), EncodingKey::from_secret(secret)));
        // Only this algorithm, whatever the token's header says; `exp` is required.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        Self { keys, validation, ttl_s: settings.token_ttl_s }
    }

    /// A token for `user`, and when it expires, in milliseconds since 1970.
    ///
    /// # Errors
    /// 400 for a life of nothing or of more than a year; 404 where there is no secret to sign with.
    pub fn mint(&self, user: &UserId, ttl_s: Option<u64>) -> Result<(String, i64), Refusal> {
        let Some((_, key)) = &self.keys else {
            return Err(Refusal::NotFound(
                "this gateway makes no tokens: auth.hs256_secret is not set".to_owned(),
            ));
        };
        let ttl_s = ttl_s.unwrap_or(self.ttl_s);
        if !(1..=TTL_S_MAX).contains(&ttl_s) {
            return Err(Refusal::Malformed(format!("ttl_s must be 1 to {TTL_S_MAX}")));
        }
        let now = unix_millis();
        let expires_at = now + i64::try_from(ttl_s).unwrap_or(i64::MAX / 2_000) * 1_000;
        let claims = NewClaims { sub: user.as_str(), iat: seconds(now), exp: seconds(expires_at) };
        let token = encode(&Header::new(Algorithm::HS256), &claims, key).map_err(|error| {
            tracing::error!(%error, "a token cannot be signed");
            Refusal::Fault
        })?;
        Ok((token, expires_at))
    }

    /// Whom `token` was made for.
    ///
    /// # Errors
    /// 401, with a sentence that says whether a new token would help.
    pub fn check(&self, token: &str) -> Result<Login, Refusal> {
        let refuse = |why: &str| Err(Refusal::NotLoggedIn(why.to_owned()));
        let Some((key, _)) = &self.keys else {
            return refuse("this gateway takes no tokens: auth.hs256_secret is not set");
        };
        match decode::<Claims>(token, key, &self.validation) {
            Ok(data) => {
                let Ok(user) = UserId::parse(&data.claims.sub) else {
                    return refuse("the token's sub is no user id");
                };
                Ok(Login { user, expires_at_ms: Some(millis(data.claims.exp)) })
            }
            Err(error) => match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => {
                    refuse("the token has expired: get a new one")
                }
                _ => refuse("the token is not valid: get a new one"),
            },
        }
    }
}

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
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn token(header: Algorithm, secret: &str, sub: &str, exp_s: i64) -> String {
        let exp = shared::ids::unix_millis() / 1000 + exp_s;
        let claims = serde_json::json!({"sub": sub, "exp": exp});
        encode(&Header::new(header), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn only_a_fresh_token_with_the_right_signature_and_algorithm_counts() {
        let tokens = Tokens::new(&Auth { hs256_secret: SECRET.into(), ..Auth::default() });
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
        ] {
            assert_eq!(tokens.check(&bad).unwrap_err().code(), 401, "{bad}");
        }
        let expired = tokens.check(&token(Algorithm::HS256, SECRET, "alice", -3_600)).unwrap_err();
        assert!(expired.message().contains("expired"));
    }

    #[test]
    fn what_is_made_here_is_good_until_its_end() {
        let tokens = Tokens::new(&Auth { hs256_secret: SECRET.into(), ..Auth::default() });
        let alice = UserId::parse("alice").unwrap();
        let (token, expires_at) = tokens.mint(&alice, Some(60)).unwrap();
        let login = tokens.check(&token).unwrap();
        assert_eq!((login.user, login.expires_at_ms), (alice.clone(), Some(expires_at)));
        for ttl_s in [0, TTL_S_MAX + 1, u64::MAX] {
            assert_eq!(tokens.mint(&alice, Some(ttl_s)).unwrap_err().code(), 400);
        }
        assert_eq!(Tokens::new(&Auth::default()).mint(&alice, None).unwrap_err().code(), 404);
    }
}
