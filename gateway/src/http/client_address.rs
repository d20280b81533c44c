//! The address that a request comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use warp::http::header::FORWARDED;
use warp::http::{HeaderMap, HeaderName};

use crate::listen::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client: the last address in `X-Forwarded-For`, or without it in `Forwarded`, that is not one of the
/// trusted proxies. Earlier addresses come from the client and cannot be trusted.
pub(super) fn client_address(peer: Option<Peer>, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip()).to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    let mut nearest = peer;
    for hop in hops(headers).into_iter().rev() {
        // An unknown or hidden address: what is before it cannot be trusted.
        let Some(address) = address(hop) else { return nearest };
        nearest = address;
        if !is_trusted(&nearest) {
            return nearest;
        }
    }
    nearest
}

/// The proxies' names for the address that each of them was called from, the one of the first proxy at the beginning.
fn hops(headers: &HeaderMap) -> Vec<&str> {
    // A value that is not ASCII names no address, and nothing before it counts.
    let lines =
        |name: &HeaderName| headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("?")).collect();
    let given: Vec<&str> = lines(&X_FORWARDED_FOR);
    if !given.is_empty() {
        return given.into_iter().flat_map(|line| elements(line, ',')).collect();
    }
    let given: Vec<&str> = lines(&FORWARDED);
    given.into_iter().flat_map(|line| elements(line, ',')).map(forwarded_for).collect()
}

/// The elements of a list, without empty ones and without the white space around them. A separator in quotes is part of an
/// element.
fn elements(list: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let parts = list.split(move |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    });
    parts.map(str::trim).filter(|element| !element.is_empty())
}

/// The value of the parameter `for` in one element of the header `Forwarded` (RFC 7239), or an empty text.
fn forwarded_for(element: &str) -> &str {
    let parameters = elements(element, ';').filter_map(|parameter| parameter.split_once('='));
    let mut named = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    named.next().map_or("", |(_, value)| value.trim())
}

/// The address of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`, in quotes or not. A
/// port may be hidden (`_x`). `None` for anything else, such as `unknown`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let text = match text.rsplit_once(":_") {
        Some((address, port)) if port.bytes().all(is_hidden_name) => address,
        _ => text,
    };
    let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match (in_brackets, text.parse::<SocketAddr>()) {
        (_, Ok(with_port)) => with_port.ip(),
        (Some(text), _) => IpAddr::V6(text.split('%').next().unwrap_or(text).parse().ok()?),
        (None, _) => text.parse().ok()?,
    };
    Some(address.to_canonical())
}

fn is_hidden_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::network;

    fn from(peer: &str, name: &'static str, lines: &[&str]) -> String {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in lines {
            headers.append(name, value.parse().unwrap());
        }
        let peer = Peer((peer.parse::<IpAddr>().unwrap(), 1).into());
        client_address(Some(peer), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_may_name_the_client() {
        let from = |peer, lines: &[&str]| from(peer, "x-forwarded-for", lines);
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "not a trusted proxy");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(from("::ffff:10.0.0.1", &["1.1.1.1", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["198.51.100.7, nonsense"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["198.51.100.7", "\u{e9}"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["198.51.100.7,, 10.0.0.2 ,"]), "198.51.100.7", "empty elements");
        assert_eq!(from("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn an_address_may_have_a_port_and_brackets() {
        for (text, address) in [
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4:5678", "1.2.3.4"),
            ("1.2.3.4:_p-1", "1.2.3.4"),
            ("\"1.2.3.4:5678\"", "1.2.3.4"),
            ("2001:db8::17", "2001:db8::17"),
            ("[2001:db8::17]", "2001:db8::17"),
            ("[2001:DB8::17]:4711", "2001:db8::17"),
            ("\"[2001:db8::17]:4711\"", "2001:db8::17"),
            ("[2001:db8::17]:_x", "2001:db8::17"),
            ("[fe80::1%eth0]", "fe80::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
        ] {
            assert_eq!(from("10.0.0.1", "x-forwarded-for", &[text]), address, "{text}");
        }
        for text in [
            "unknown",
            "_hidden",
            "1.2.3.4:",
            "1.2.3.4:x",
            "1.2.3.4:70000",
            "1.2.3",
            "[1.2.3.4]",
            "[2001:db8::17",
            "2001:db8::17]:80",
            "\"1.2.3.4",
            "chat.example",
            "1.2.3.4 5",
        ] {
            assert_eq!(from("10.0.0.1", "x-forwarded-for", &[text]), "10.0.0.1", "{text}");
        }
    }

    #[test]
    fn the_standard_header_names_the_client_as_well() {
        let from = |lines: &[&str]| from("10.0.0.1", "forwarded", lines);
        assert_eq!(from(&["for=198.51.100.7"]), "198.51.100.7");
        assert_eq!(from(&["proto=https;For=\"198.51.100.7:4711\";by=10.0.0.1"]), "198.51.100.7");
        assert_eq!(from(&["For=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
        assert_eq!(
            from(&["for=1.1.1.1, for=198.51.100.7;host=\"a,b;for=2.2.2.2\", for=10.0.0.2"]),
            "198.51.100.7"
        );
        assert_eq!(from(&["for=1.1.1.1", "for=198.51.100.7", "for=10.0.0.2"]), "198.51.100.7");
        for hidden in ["for=unknown", "for=_gazonk", "proto=https", "for=", "for"] {
            let line = format!("for=198.51.100.7, {hidden}");
            assert_eq!(from(&[&line]), "10.0.0.1", "{line}");
        }
    }

    #[test]
    fn one_header_counts_if_both_are_given() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED, "for=192.0.2.1".parse().unwrap());
        headers.insert(X_FORWARDED_FOR, "198.51.100.7".parse().unwrap());
        let peer = Peer(([10, 0, 0, 1], 1).into());
        let address = client_address(Some(peer), &headers, &["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(address.to_string(), "198.51.100.7");
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_limit() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
