//! The service account of the FCM server: its key, and the tokens that its owner gets (RFC 7523).

use std::collections::{HashMap, HashSet};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Answer;
use super::vapid::unix_s;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EMAIL: &str = "push@demo-project.iam.gserviceaccount.com";
const KEY_ID: &str = "0123456789abcdef";

#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    scope: String,
    iat: u64,
    exp: u64,
}

#[derive(Debug)]
struct Tokens {
    valid: HashSet<String>,
    granted: u64,
    expires_in_s: u64,
}

/// The account, at the side of the server.
#[derive(Debug)]
pub(super) struct Account {
    private: String,
    public: Vec<u8>,
    tokens: Mutex<Tokens>,
}

impl Account {
    pub(super) fn generate() -> anyhow::Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let der: Pkcs8V1Der<'_> = pair.as_der()?;
        let private = pem(der.as_ref());
        let tokens = Mutex::new(Tokens { valid: HashSet::new(), granted: 0, expires_in_s: 3_599 });
        Ok(Self { private, public: pair.public_key().as_ref().to_vec(), tokens })
    }

    /// The file that the console of Firebase gives.
    pub(super) fn file(&self, project: &str, token_uri: &str) -> Value {
        json!({
            "type": "service_account",
            "project_id": project,
            "private_key_id": KEY_ID,
            "private_key": self.private,
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": token_uri,
        })
    }

    pub(super) fn granted(&self) -> u64 {
        self.tokens.lock().granted
    }

    pub(super) fn expire_in(&self, seconds: u64) {
        self.tokens.lock().expires_in_s = seconds;
    }

    pub(super) fn revoke_all(&self) {
        self.tokens.lock().valid.clear();
    }

    pub(super) fn is_valid(&self, authorization: &str) -> bool {
        authorization.strip_prefix("Bearer ").is_some_and(|token| self.tokens.lock().valid.contains(token))
    }

    /// Answers the token endpoint at `token_uri`.
    pub(super) fn grant(&self, body: &[u8], token_uri: &str) -> Answer {
        match self.check(body, token_uri) {
            Ok(()) => {
                let token = format!("ya29.{}", Uuid::new_v4().simple());
                let mut tokens = self.tokens.lock();
                tokens.granted += 1;
                tokens.valid.insert(token.clone());
                let expires_in = tokens.expires_in_s;
                let body = json!({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"});
                Answer::json(200, &body)
            }
            Err(why) => {
                Answer::json(400, &json!({"error": "invalid_grant", "error_description": why.to_string()}))
            }
        }
    }

    fn check(&self, body: &[u8], token_uri: &str) -> anyhow::Result<()> {
        let query = format!("http://form/?{}", std::str::from_utf8(body)?);
        let form: HashMap<String, String> = reqwest::Url::parse(&query)?.query_pairs().into_owned().collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        anyhow::ensure!(field("grant_type") == GRANT_TYPE, "grant_type is {}", field("grant_type"));
        let assertion = field("assertion");
        anyhow::ensure!(decode_header(assertion)?.kid.as_deref() == Some(KEY_ID), "kid is another one");
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[token_uri]);
        validation.set_required_spec_claims(&["aud", "exp", "iss"]);
        let claims: Claims = decode(assertion, &DecodingKey::from_rsa_der(&self.public), &validation)?.claims;
        anyhow::ensure!(claims.iss == EMAIL && claims.scope == SCOPE, "{} {}", claims.iss, claims.scope);
        let is_in_time = claims.iat <= unix_s() && claims.exp <= claims.iat + 3_600;
        anyhow::ensure!(is_in_time, "Token must be a short-lived token (60 minutes)");
        Ok(())
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}
