//! What a push service checks of the header `Authorization` (RFC 8292 §2 and §3).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

/// Longest validity of a token.
const VALID_S_MAX: u64 = 24 * 3_600;

#[derive(Debug, Deserialize)]
struct Claims {
    aud: String,
    exp: u64,
    sub: String,
}

/// Seconds since 1970.
pub(super) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The public key in base64url of a header that is right for the push service at `origin`.
pub(super) fn check(authorization: &str, origin: &str) -> anyhow::Result<String> {
    let parameters =
        authorization.strip_prefix("vapid ").ok_or_else(|| anyhow::anyhow!("no scheme vapid"))?;
    let parameter = |name: &str| {
        let mut all = parameters.split(',').filter_map(|parameter| parameter.trim().split_once('='));
        let found = all.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
        found.ok_or_else(|| anyhow::anyhow!("no parameter {name}"))
    };
    let (token, key) = (parameter("t")?, parameter("k")?);
    let point = URL_SAFE_NO_PAD.decode(&key)?;
    anyhow::ensure!(point.len() == 65 && point[0] == 4, "k is no uncompressed point");
    let mut validation = Validation::new(Algorithm::ES256);
    validation.leeway = 0;
    validation.set_audience(&[origin]);
    validation.set_required_spec_claims(&["aud", "exp"]);
    let claims: Claims = decode(&token, &DecodingKey::from_ec_der(&point), &validation)?.claims;
    anyhow::ensure!(claims.aud == origin, "aud is {}", claims.aud);
    anyhow::ensure!(claims.exp <= unix_s() + VALID_S_MAX, "exp is more than 24 hours away");
    anyhow::ensure!(
        claims.sub.starts_with("mailto:") || claims.sub.starts_with("https://"),
        "sub is {}",
        claims.sub
    );
    Ok(key)
}
