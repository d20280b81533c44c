//! Authentication: the caller of a request, the same for the WebSocket handshake and for HTTP calls.

use shared::ids::UserId;
use warp::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::operator::OperatorKey;
use super::token::{Login, Tokens};
use crate::config::AuthMode;
use crate::wire::api_error::ApiError;

/// The header with the operator's key.
pub(crate) const API_KEY: &str = "x-api-key";
/// The header with the user that the operator acts for.
pub(crate) const ACTING_FOR: &str = "x-user-id";

/// The caller of an HTTP call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A user.
    User(UserId),
    /// The operator, and the user that it acts for, if it names one.
    Operator(Option<UserId>),
}

/// The parameters of the query string that name the caller.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Claims<'a> {
    /// `token`
    pub(crate) token: Option<&'a str>,
    /// `user_id`, accepted only with [`AuthMode::Insecure`], and of the operator.
    pub(crate) user_id: Option<&'a str>,
}

/// The user of a request; `None` if the request names none.
///
/// # Errors
/// 401 for an invalid token, or for `user_id` without a token; 400 for a malformed user id.
pub(crate) fn user(
    tokens: &Tokens,
    mode: AuthMode,
    headers: &HeaderMap,
    claims: Claims<'_>,
) -> Result<Option<Login>, ApiError> {
    match (bearer(headers)?.or(claims.token), claims.user_id) {
        (Some(token), _) => tokens.check(token).map(Some),
        (None, Some(user)) if mode == AuthMode::Insecure => {
            let user = UserId::parse(user).map_err(ApiError::malformed)?;
            Ok(Some(Login::unverified(user)))
        }
        (None, Some(_)) => {
            Err(ApiError::Unauthenticated("user_id without a token is not accepted: send a token".to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// The operator, if the request has its key; `None` if it has no key. It names the user that it acts for in
/// `X-User-Id`, in UTF-8, or in the parameter `user_id`: many HTTP clients send no header with such a value.
///
/// # Errors
/// 401 for a wrong key; 400 for a malformed user id beside the right key.
pub(crate) fn operator(
    key: &OperatorKey,
    headers: &HeaderMap,
    claims: Claims<'_>,
) -> Result<Option<Caller>, ApiError> {
    let Some(given) = single(headers, API_KEY)? else { return Ok(None) };
    if !key.matches(given.as_bytes()) {
        return Err(ApiError::Unauthenticated("X-Api-Key is not the operator's key".to_owned()));
    }
    let header = single(headers, ACTING_FOR)?.map(|user| std::str::from_utf8(user.as_bytes()));
    let header = header.transpose().map_err(|_| ApiError::malformed("X-User-Id is not UTF-8"))?;
    let acting_for = header.or(claims.user_id).map(UserId::parse);
    Ok(Some(Caller::Operator(acting_for.transpose().map_err(ApiError::malformed)?)))
}

/// The token of `Authorization: Bearer <token>`.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = single(headers, AUTHORIZATION.as_str())? else { return Ok(None) };
    let value = value.to_str().unwrap_or_default();
    match value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        Some((_, token)) => Ok(Some(token.trim())),
        None => Err(ApiError::Unauthenticated("Authorization must be: Bearer <token>".to_owned())),
    }
}

/// The value of a header that names the caller. If it is sent more than once, a proxy before the gateway may have checked
/// another one than the gateway.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(ApiError::Malformed(format!("{name} is sent more than once"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Auth;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn login(
        mode: AuthMode,
        fields: &[(&'static str, &'static str)],
        claims: Claims<'_>,
    ) -> Result<Option<String>, u16> {
        let tokens = Tokens::new(&Auth::default(), std::sync::Arc::default()).unwrap();
        match user(&tokens, mode, &headers(fields), claims) {
            Ok(login) => Ok(login.map(|login| login.user.as_str().to_owned())),
            Err(refusal) => Err(refusal.code()),
        }
    }

    #[test]
    fn a_user_id_is_accepted_in_demos_only_and_a_bad_token_never() {
        let alice = Claims { token: None, user_id: Some("alice") };
        assert_eq!(login(AuthMode::Insecure, &[], alice), Ok(Some("alice".to_owned())));
        assert_eq!(login(AuthMode::Jwt, &[], alice), Err(401));
        assert_eq!(login(AuthMode::Insecure, &[], Claims { user_id: Some("a b"), ..alice }), Err(400));
        assert_eq!(login(AuthMode::Insecure, &[("authorization", "Bearer x")], alice), Err(401));
        assert_eq!(login(AuthMode::Insecure, &[("authorization", "Basic x")], alice), Err(401));
        assert_eq!(login(AuthMode::Insecure, &[], Claims { token: Some("x"), ..alice }), Err(401));
        assert_eq!(login(AuthMode::Jwt, &[], Claims::default()), Ok(None));
    }

    #[test]
    fn a_header_that_names_the_caller_is_sent_once() {
        let twice = |name| [(name, "Bearer x"), (name, "Bearer x")];
        for name in ["x-api-key", "x-user-id", "authorization"] {
            let mut headers = headers(&[("x-api-key", "the key")]);
            for (name, value) in twice(name) {
                headers.append(name, HeaderValue::from_static(value));
            }
            let tokens = Tokens::new(&Auth::default(), std::sync::Arc::default()).unwrap();
            let as_user = user(&tokens, AuthMode::Insecure, &headers, Claims::default()).err();
            let as_operator =
                operator(&OperatorKey::new("the key".into()), &headers, Claims::default()).err();
            let refused = if name == "authorization" { as_user } else { as_operator };
            assert_eq!(refused.map(|refused| refused.code()), Some(400), "{name}");
        }
    }

    #[test]
    fn the_operator_may_name_the_user_it_acts_for() {
        let key = OperatorKey::new("the key".into());
        let by = |fields: &[(&'static str, &'static str)], user_id| {
            let claims = Claims { token: None, user_id };
            operator(&key, &headers(fields), claims).map_err(|refusal| refusal.code())
        };
        let caller = |fields: &[(&'static str, &'static str)]| by(fields, None);
        assert_eq!(caller(&[("x-user-id", "bob")]), Ok(None));
        assert_eq!(caller(&[("x-api-key", "the key")]), Ok(Some(Caller::Operator(None))));
        let bob = Caller::Operator(Some(UserId::parse("bob").unwrap()));
        assert_eq!(caller(&[("x-api-key", "the key"), ("x-user-id", "bob")]), Ok(Some(bob.clone())));
        assert_eq!(by(&[("x-api-key", "the key")], Some("bob")), Ok(Some(bob.clone())));
        assert_eq!(by(&[("x-api-key", "the key"), ("x-user-id", "bob")], Some("eve")), Ok(Some(bob)));
        assert_eq!(by(&[("x-api-key", "the key")], Some("b b")), Err(400));
        assert_eq!(by(&[], Some("bob")), Ok(None));
        assert_eq!(caller(&[("x-api-key", "a key")]), Err(401));
        assert_eq!(caller(&[("x-api-key", "the key"), ("x-user-id", "b b")]), Err(400));
    }
}
