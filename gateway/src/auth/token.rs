//! JSON Web Tokens.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use shared::ids::UserId;

use crate::config::Auth;
use crate::wire::refusal::Refusal;

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

/// Checks tokens. Signatures are compared in constant time by the library; tokens are never logged.
pub struct Tokens {
    key: Option<DecodingKey>,
    validation: Validation,
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
        let key = (!settings.hs256_secret.is_empty())
            .then(|| DecodingKey::from_secret(settings.hs256_secret.as_bytes()));
        // Only this algorithm, whatever the token's header says; `exp` is required.
        Self { key, validation: Validation::new(Algorithm::HS256) }
    }

    /// The user that `token` was made for.
    ///
    /// # Errors
    /// 401, with a sentence that says whether a new token would help.
    pub fn check(&self, token: &str) -> Result<UserId, Refusal> {
        let refuse = |why: &str| Err(Refusal::NotLoggedIn(why.to_owned()));
        let Some(key) = &self.key else {
            return refuse("this gateway takes no tokens: auth.hs256_secret is not set");
        };
        match decode::<Claims>(token, key, &self.validation) {
            Ok(data) => UserId::parse(&data.claims.sub).or_else(|_| refuse("the token's sub is no user id")),
            Err(error) => match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => {
                    refuse("the token has expired: get a new one")
                }
                _ => refuse("the token is not valid: get a new one"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};

    use super::*;
    use crate::config::AuthMode;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn token(header: Algorithm, secret: &str, sub: &str, exp_s: i64) -> String {
        let exp = shared::ids::unix_millis() / 1000 + exp_s;
        let claims = serde_json::json!({"sub": sub, "exp": exp});
        encode(&Header::new(header), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn only_a_fresh_token_with_the_right_signature_and_algorithm_counts() {
        let tokens = Tokens::new(&Auth { mode: AuthMode::Jwt, hs256_secret: SECRET.into() });
        assert_eq!(tokens.check(&token(Algorithm::HS256, SECRET, "alice", 60)).unwrap().as_str(), "alice");
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
}
