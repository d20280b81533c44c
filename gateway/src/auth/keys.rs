//! The keys that verify tokens, from the settings and from files.
//!
//! Each key has exactly one algorithm, given by its type. A token's header only selects among the keys; it never makes a
//! key serve another algorithm.

use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use shared::config::ConfigError;

use crate::config::Auth;

/// Most keys of a key set: a token without `kid` may be tried with each.
const KEYS_MAX: usize = 32;

/// A key that verifies tokens.
#[derive(Clone)]
struct Key {
    /// Its id, if it has one.
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// All configured keys.
#[derive(Clone, Default)]
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Reads the configured keys, from the settings and the files.
    ///
    /// # Errors
    /// A file is unusable; the message names the setting.
    pub(super) fn read(settings: &Auth) -> Result<Self, ConfigError> {
        let mut keys = Vec::new();
        if !settings.hs256_secret.is_empty() {
            let key = DecodingKey::from_secret(settings.hs256_secret.expose().as_bytes());
            keys.push(Key { kid: None, algorithm: Algorithm::HS256, key });
        }
        if let Some(text) = read("auth.public_key_file", &settings.public_key_file)? {
            keys.push(public_key(&text)?);
        }
        if let Some(text) = read("auth.jwks_file", &settings.jwks_file)? {
            keys.extend(key_set(&text)?);
        }
        Ok(Self(keys))
    }

    /// Whether no key is configured.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that a token with this header may be signed with.
    pub(super) fn for_token<'k>(
        &'k self,
        header: &'k Header,
    ) -> impl Iterator<Item = (Algorithm, &'k DecodingKey)> {
        let named = |key: &&Key| match (&key.kid, &header.kid) {
            (Some(kid), Some(named)) => kid == named,
            // A key without an id is tried for any token, and a token without one with any key.
            _ => true,
        };
        let of_kind = self.0.iter().filter(|key| key.algorithm == header.alg);
        of_kind.filter(named).map(|key| (key.algorithm, &key.key))
    }
}

fn read(setting: &str, file: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = std::fs::read(file);
    text.map(Some).map_err(|error| ConfigError::key(setting, format!("{}: {error}", file.display())))
}

/// An RSA key is for RS256, an Ed25519 key for EdDSA.
fn public_key(pem: &[u8]) -> Result<Key, ConfigError> {
    let rsa = || DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
    let ed = || DecodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key));
    let why = "contains no public key of RSA or Ed25519 in PEM (-----BEGIN PUBLIC KEY-----)";
    // The library accepts a private key for a public one, too.
    let is_private = pem.windows(7).any(|word| word == b"PRIVATE");
    let found = if is_private { None } else { rsa().or_else(|_| ed()).ok() };
    let (algorithm, key) = found.ok_or_else(|| ConfigError::key("auth.public_key_file", why))?;
    Ok(Key { kid: None, algorithm, key })
}

/// The keys of a JSON Web Key Set that verify signatures of RS256 or EdDSA; others are ignored.
fn key_set(text: &[u8]) -> Result<Vec<Key>, ConfigError> {
    let refuse = |why: &str| ConfigError::key("auth.jwks_file", why);
    let set: JwkSet = serde_json::from_slice(text).map_err(|_| refuse("contains no JSON Web Key Set"))?;
    let keys: Vec<Key> = set.keys.iter().filter_map(usable).collect();
    if keys.is_empty() {
        return Err(refuse("contains no key for RS256 or EdDSA"));
    }
    if keys.len() > KEYS_MAX {
        return Err(refuse("contains more than 32 keys"));
    }
    Ok(keys)
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let of_other_kind = jwk.common.key_algorithm.is_some_and(|algorithm| algorithm != named);
    let for_other_use =
        jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature);
    if of_other_kind || for_other_use {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { kid: jwk.common.key_id.clone(), algorithm, key })
}
