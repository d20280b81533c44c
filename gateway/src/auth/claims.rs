//! The claims of a token whose signature is valid. A pure rule: each refusal names the claim that causes it.

use serde_json::{Map, Value};
use shared::ids::UserId;

/// How far the clock of the issuer may be ahead, for `nbf` and `iat`. `exp` has no leeway: at this moment the connections
/// of the token are closed, too.
const CLOCK_SKEW_MS: i64 = 60_000;

/// What the gateway requires of a token beside its times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    /// `aud`; empty: not checked.
    pub(super) audience: &'a str,
    /// `iss`; empty: not checked.
    pub(super) issuer: &'a str,
}

/// The claims that the gateway uses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// `sub`
    pub(super) user: UserId,
    /// `iat`, in milliseconds since 1970; `None` without it.
    pub(super) issued_at_ms: Option<i64>,
    /// `exp`, in milliseconds since 1970.
    pub(super) expires_at_ms: i64,
}

impl Claims {
    /// Checks all claims at `now_ms`, in milliseconds since 1970.
    ///
    /// # Errors
    /// A sentence for the author of the client, with the name of the claim.
    pub(super) fn check(
        claims: &Map<String, Value>,
        expected: Expected<'_>,
        now_ms: i64,
    ) -> Result<Self, String> {
        let claim = |name: &str| claims.get(name).filter(|value| !value.is_null());
        let required = |name: &str| claim(name).ok_or_else(|| format!("the token has no {name}"));
        let time = |name: &str| claim(name).map(|value| millis(name, value)).transpose();
        let expires_at_ms = millis("exp", required("exp")?)?;
        if expires_at_ms <= now_ms {
            return Err("the token has expired (exp): get a new one".to_owned());
        }
        let latest = now_ms.saturating_add(CLOCK_SKEW_MS);
        if time("nbf")?.is_some_and(|not_before| not_before > latest) {
            return Err("the token is not valid yet (nbf)".to_owned());
        }
        let issued_at_ms = time("iat")?.map(|iat| issued_at_ms(iat, claim("iat_ms")));
        if issued_at_ms.is_some_and(|issued_at| issued_at > latest) {
            return Err("the token was issued in the future (iat): the clocks do not agree".to_owned());
        }
        let Expected { audience, issuer } = expected;
        if !audience.is_empty() && !names(required("aud")?, audience) {
            return Err("the token is for another audience (aud)".to_owned());
        }
        if !issuer.is_empty() && required("iss")?.as_str() != Some(issuer) {
            return Err("the token is from another issuer (iss)".to_owned());
        }
        let sub = required("sub")?.as_str().ok_or("the token's sub is not a string")?;
        let user = UserId::parse(sub).map_err(|why| format!("the token's sub is not a user id: {why}"))?;
        Ok(Self { user, issued_at_ms, expires_at_ms })
    }
}

/// Whether the claim `aud`, one name or a list of names, contains `audience`.
fn names(aud: &Value, audience: &str) -> bool {
    match aud {
        Value::Array(all) => all.iter().any(|one| one.as_str() == Some(audience)),
        one => one.as_str() == Some(audience),
    }
}

/// `iat`, with the milliseconds that a gateway adds as `iat_ms` if it issues the token: `iat` has whole seconds, and a
/// token that is issued in the second of a revocation, after it, is valid.
fn issued_at_ms(iat: i64, iat_ms: Option<&Value>) -> i64 {
    let exact = iat_ms.and_then(Value::as_i64);
    exact.filter(|exact| exact.div_euclid(1_000) == iat.div_euclid(1_000)).unwrap_or(iat)
}

/// A claim in seconds since 1970, possibly with a fraction, as milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
fn millis(name: &str, value: &Value) -> Result<i64, String> {
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite());
    let seconds =
        seconds.ok_or_else(|| format!("the token's {name} is not a number of seconds since 1970"))?;
    Ok((seconds * 1_000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_500;
    const ANY: Expected<'_> = Expected { audience: "", issuer: "" };

    fn check(claims: Value, expected: Expected<'_>) -> Result<Claims, String> {
        let Value::Object(claims) = claims else { panic!("{claims}") };
        Claims::check(&claims, expected, NOW_MS)
    }

    #[test]
    fn a_refusal_names_the_claim() {
        let now = NOW_MS / 1_000;
        let strict = Expected { audience: "chat", issuer: "https://id.example" };
        let valid = json!({"sub": "a", "exp": now + 60, "aud": "chat", "iss": "https://id.example"});
        assert!(check(valid.clone(), strict).is_ok());
        let names = ["exp", "nbf", "iat", "aud", "iss", "sub"];
        for (name, value, why) in [
            ("exp", Value::Null, "has no exp"),
            ("exp", json!((now + 60).to_string()), "exp is not a number"),
            ("exp", json!([now + 60]), "exp is not a number"),
            ("exp", json!(now - 60), "has expired (exp)"),
            ("nbf", json!("soon"), "nbf is not a number"),
            ("nbf", json!(now + 120), "not valid yet (nbf)"),
            ("iat", json!({}), "iat is not a number"),
            ("iat", json!(now + 120), "in the future (iat)"),
            ("aud", Value::Null, "has no aud"),
            ("aud", json!("mail"), "another audience (aud)"),
            ("aud", json!(["mail", 5]), "another audience (aud)"),
            ("aud", json!({"chat": 1}), "another audience (aud)"),
            ("iss", Value::Null, "has no iss"),
            ("iss", json!("https://evil.example"), "another issuer (iss)"),
            ("iss", json!(["https://id.example"]), "another issuer (iss)"),
            ("sub", Value::Null, "has no sub"),
            ("sub", json!(5), "sub is not a string"),
            ("sub", json!("al ice"), "sub is not a user id"),
            ("sub", json!(""), "sub is not a user id"),
        ] {
            let mut claims = valid.clone();
            claims[name] = value;
            let refused = check(claims, strict).unwrap_err();
            assert!(refused.contains(why), "{name}: {refused}");
            let words: Vec<&str> = refused.split(|c: char| !c.is_alphanumeric()).collect();
            let named: Vec<&str> = names.into_iter().filter(|name| words.contains(name)).collect();
            assert_eq!(named, [name], "{refused}");
        }
    }

    #[test]
    fn exp_has_no_leeway_and_nbf_and_iat_have_a_minute() {
        let now = NOW_MS as f64 / 1_000.0;
        let valid = |claims: Value| check(claims, ANY).is_ok();
        assert!(!valid(json!({"sub": "a", "exp": now})));
        assert!(!valid(json!({"sub": "a", "exp": now - 0.001})));
        assert!(valid(json!({"sub": "a", "exp": now + 0.001})));
        for name in ["nbf", "iat"] {
            let mut claims = json!({"sub": "a", "exp": now + 3_600.0});
            claims[name] = json!(now + 60.0);
            assert!(valid(claims.clone()), "{name}");
            claims[name] = json!(now + 60.001);
            assert!(!valid(claims.clone()), "{name}");
            claims[name] = json!(1e300);
            assert!(!valid(claims), "{name}");
        }
        assert!(valid(json!({"sub": "a", "exp": 1e300})));
    }

    #[test]
    fn the_time_of_issue_has_milliseconds_if_they_agree_with_iat() {
        let now = NOW_MS / 1_000;
        let issued = |claims: Value| {
            let mut all = json!({"sub": "a", "exp": now + 60});
            all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
            check(all, ANY).unwrap().issued_at_ms
        };
        assert_eq!(issued(json!({})), None);
        assert_eq!(issued(json!({"iat": null})), None);
        assert_eq!(issued(json!({"iat_ms": NOW_MS})), None, "only beside iat");
        assert_eq!(issued(json!({"iat": now})), Some(now * 1_000));
        assert_eq!(issued(json!({"iat": now, "iat_ms": NOW_MS})), Some(NOW_MS));
        assert_eq!(issued(json!({"iat": now, "iat_ms": NOW_MS + 1_000})), Some(now * 1_000));
        assert_eq!(issued(json!({"iat": now as f64 + 0.25})), Some(now * 1_000 + 250));
    }
}
