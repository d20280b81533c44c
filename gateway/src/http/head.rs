//! The head of a request: rules that hold for all paths (RFC 9112, section 3.2).

use warp::http::Version;
use warp::http::header::{AsHeaderName, HOST, HeaderMap, HeaderValue};
use warp::reject::Reject;
use warp::{Filter, Rejection};

use crate::listen::Target;
use crate::origin::host_and_port;

/// A request whose head breaks a rule: it is answered with 400 and this sentence.
#[derive(Debug)]
pub(super) struct BadHead(pub(super) &'static str);

impl Reject for BadHead {}

/// The headers of the request, with one valid `Host` at most.
pub(super) fn headers() -> impl Filter<Extract = (HeaderMap,), Error = Rejection> + Clone {
    warp::header::headers_cloned().and(warp::ext::optional::<Target>()).and_then(
        async |headers: HeaderMap, target: Option<Target>| {
            checked(headers, target.as_ref()).map_err(|why| warp::reject::custom(BadHead(why)))
        },
    )
}

fn checked(mut headers: HeaderMap, target: Option<&Target>) -> Result<HeaderMap, &'static str> {
    let Ok(host) = single(&headers, HOST) else { return Err("Host is sent more than once") };
    match host {
        None if target.is_some_and(|target| target.version >= Version::HTTP_11) => {
            return Err("Host is missing");
        }
        None => {}
        Some(host) if host.is_empty() || host.to_str().is_ok_and(|host| host_and_port(host).is_some()) => {}
        Some(_) => return Err("Host must be a name or an address, and possibly a port"),
    }
    // `GET http://host/path`: the host of the target counts.
    if let Some(authority) = target.and_then(|target| target.authority.as_ref())
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, host);
    }
    Ok(headers)
}

/// The only value of a header that may be sent once; `None` without it.
///
/// # Errors
/// It is sent more than once: another reader of the request may use another one of its values.
pub(crate) fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Result<Option<&HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(
        version: Version,
        authority: Option<&str>,
        hosts: &[&str],
    ) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        let target = Target { version, authority: authority.map(|authority| authority.parse().unwrap()) };
        let headers = checked(headers, Some(&target))?;
        Ok(headers.get(HOST).map(|host| host.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_request_names_one_host() {
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        assert_eq!(host(new, None, &["chat.example:8080"]), Ok(Some("chat.example:8080".to_owned())));
        assert_eq!(host(new, None, &[""]), Ok(Some(String::new())));
        assert_eq!(host(old, None, &[]), Ok(None));
        assert!(host(new, None, &[]).is_err());
        for version in [old, new] {
            assert!(host(version, None, &["a", "a"]).is_err());
            for bad in ["a b", "a/b", "user@a", "a:b", "a,b", "é"] {
                assert!(host(version, None, &[bad]).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn the_host_of_the_target_counts() {
        let host = |authority, hosts: &[&str]| host(Version::HTTP_11, Some(authority), hosts);
        assert_eq!(host("chat.example:80", &["evil.example"]), Ok(Some("chat.example:80".to_owned())));
        assert!(host("chat.example", &["a", "b"]).is_err());
        assert!(host("chat.example", &[]).is_err());
    }
}
