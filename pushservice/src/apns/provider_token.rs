//! Tokens that say which developer team sends:
//! <https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns>.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde::Serialize;

/// Apple refuses a token that is older than 60 minutes, and tokens that are replaced more often than every 20 minutes.
const REPLACED_AFTER_S: u64 = 40 * 60;

#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: u64,
}

#[derive(Debug)]
struct Token {
    value: Arc<str>,
    issued_s: u64,
}

/// The token of a team's key.
pub(super) struct ProviderTokens {
    key: EncodingKey,
    key_id: String,
    team_id: String,
    token: Mutex<Option<Token>>,
}

impl ProviderTokens {
    pub(super) fn new(key: EncodingKey, key_id: &str, team_id: &str) -> Self {
        Self { key, key_id: key_id.to_owned(), team_id: team_id.to_owned(), token: Mutex::default() }
    }

    /// A token other than `refused`, which APNs called expired.
    ///
    /// # Errors
    /// The library's.
    pub(super) fn get(
        &self,
        refused: Option<&Arc<str>>,
        now_s: u64,
    ) -> jsonwebtoken::errors::Result<Arc<str>> {
        let mut present = self.token.lock();
        if let Some(token) = &*present
            // Also if the clock was set back: a time of issue in the future is refused.
            && now_s.checked_sub(token.issued_s).is_some_and(|age_s| age_s < REPLACED_AFTER_S)
            && refused != Some(&token.value)
        {
            return Ok(Arc::clone(&token.value));
        }
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let claims = Claims { iss: &self.team_id, iat: now_s };
        let value: Arc<str> = jsonwebtoken::encode(&header, &claims, &self.key)?.into();
        *present = Some(Token { value: Arc::clone(&value), issued_s: now_s });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

    use super::*;

    #[test]
    fn a_token_is_used_for_40_minutes() {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        let tokens = ProviderTokens::new(EncodingKey::from_ec_der(key.as_ref()), "KEY", "TEAM");
        let first = tokens.get(None, 1_000_000).unwrap();
        assert_eq!(tokens.get(None, 1_000_000 + 2_399).unwrap(), first);
        let second = tokens.get(None, 1_000_000 + 2_400).unwrap();
        assert_ne!(second, first);
        // A refused token is replaced once: whoever comes later with the same one gets the new one.
        let third = tokens.get(Some(&second), 1_002_401).unwrap();
        assert_ne!(third, second);
        assert_eq!(tokens.get(Some(&second), 1_002_402).unwrap(), third);
        assert_ne!(tokens.get(None, 1_000_000).unwrap(), third);
        let header = jsonwebtoken::decode_header(third.as_bytes()).unwrap();
        assert_eq!((header.alg, header.kid.as_deref()), (Algorithm::ES256, Some("KEY")));
        let claims: serde_json::Value =
            jsonwebtoken::dangerous::insecure_decode_claims(third.as_bytes()).unwrap();
        assert_eq!(claims, serde_json::json!({"iss": "TEAM", "iat": 1_002_401}));
    }
}
