//! Origins of web pages and names of hosts, as browsers write them. Pure rules.

use url::Host;

/// The origin of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `https://chat.example`, `http://[::1]:8080`: compared by scheme, host and port.
    Web {
        /// Whether the scheme is `https`.
        is_https: bool,
        host: Host,
        /// The default port of the scheme, unless another one is named.
        port: u16,
    },
    /// An origin of an app (`capacitor://localhost`), or `null`: compared as text, in lower case.
    Other(String),
}

impl Origin {
    /// Parses an origin without a path; one `/` at its end is ignored. `None` if it is not an origin.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "null" {
            return Some(Self::Other(text));
        }
        let (scheme, rest) = text.split_once("://")?;
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return is_app(scheme, rest).then_some(Self::Other(text)),
        };
        let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest))?;
        Some(Self::Web { is_https, host, port: port.unwrap_or(default_port(is_https)) })
    }

    /// Whether this is the origin of pages of the host that the request names as `host` and `port`. A host without a port
    /// has the default port of the page's scheme: TLS may end before the gateway.
    pub(crate) fn is_of(&self, (host, port): &(Host, Option<u16>)) -> bool {
        match self {
            Self::Web { is_https, host: own_host, port: own_port } => {
                own_host == host && *own_port == port.unwrap_or(default_port(*is_https))
            }
            Self::Other(_) => false,
        }
    }

    /// The host of a web page.
    pub(crate) fn host(&self) -> Option<&Host> {
        match self {
            Self::Web { host, .. } => Some(host),
            Self::Other(_) => None,
        }
    }
}

fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// An origin with a scheme of its own: a name, and no path.
fn is_app(scheme: &str, rest: &str) -> bool {
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(is_scheme)
        && rest.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@'))
}

/// Parses the value of a `Host` header: a name or an IP address, and possibly a port. Names are compared in lower case and
/// without the dot at their end. `None` if it is neither.
pub(crate) fn host_and_port(text: &str) -> Option<(Host, Option<u16>)> {
    let (name, port) = match text.rfind([':', ']']).filter(|at| text[*at..].starts_with(':')) {
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (text, None),
    };
    let port = match port {
        // As in `chat.example:`, which RFC 3986 allows.
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    Some((host(name)?, port))
}

/// Parses the name of a host: a domain, or an IP address (IPv6 in brackets).
pub(crate) fn host(name: &str) -> Option<Host> {
    // Neither percent-encoding, patterns nor lists are names.
    if name.contains(['%', '*', ',']) {
        return None;
    }
    Host::parse(name.strip_suffix('.').unwrap_or(name)).ok()
}

/// Whether this name always leads to this machine or is not looked up at all. Pages can be made to have any other name, and
/// that name to lead here (DNS rebinding).
pub(crate) fn is_local_or_address(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        let equal = |a: &str, b: &str| {
            let parsed = [a, b].map(|text| Origin::parse(text).unwrap_or_else(|| panic!("{text}")));
            parsed[0] == parsed[1]
        };
        for (a, b) in [
            ("https://chat.example", "HTTPS://Chat.Example"),
            ("https://chat.example", "https://chat.example:443"),
            ("http://chat.example:80", "http://chat.example/"),
            ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080"),
            ("https://xn--mnchen-3ya.example", "https://münchen.example"),
            ("https://chat.example.", "https://chat.example"),
            ("capacitor://localhost", "Capacitor://localhost"),
            ("null", "null"),
        ] {
            assert!(equal(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("https://chat.example", "http://chat.example"),
            ("https://chat.example", "https://chat.example:8443"),
            ("https://chat.example:80", "http://chat.example"),
            ("https://chat.example", "https://chat.example.evil"),
            ("https://chat.example", "https://evilchat.example"),
            ("http://127.0.0.1", "http://127.0.0.2"),
            ("capacitor://localhost", "http://localhost"),
            ("null", "http://null"),
        ] {
            assert!(!equal(a, b), "{a} {b}");
        }
    }

    #[test]
    fn other_texts_are_no_origins() {
        for text in [
            "",
            "*",
            "chat.example",
            "//chat.example",
            "https://",
            "https://chat.example/path",
            "https://chat.example//",
            "https://user@chat.example",
            "https://chat.example?x",
            "https://chat.example#x",
            "https://chat.example:port",
            "https://chat.example:65536",
            "https://chat.example, https://other.example",
            "https://chat example",
            "https://chat.example\\@evil.example",
            "https://ch%61t.example",
            "1app://x",
            "app://x/y",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_page_is_of_the_host_that_it_connects_to() {
        let is_of = |origin: &str, host: &str| {
            let host = host_and_port(host).unwrap_or_else(|| panic!("{host}"));
            Origin::parse(origin).is_some_and(|origin| origin.is_of(&host))
        };
        for (origin, host) in [
            ("http://chat.example:8080", "chat.example:8080"),
            ("https://chat.example", "chat.example"),
            ("https://chat.example", "Chat.Example:443"),
            ("https://chat.example:443", "chat.example"),
            ("http://chat.example", "chat.example:80"),
            ("http://CHAT.example:80", "chat.example"),
            ("http://chat.example", "chat.example:"),
            ("http://localhost:8080", "LOCALHOST:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[0::1]:80"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ] {
            assert!(is_of(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://chat.example", "chat.example:80"),
            ("http://chat.example", "chat.example:443"),
            ("http://chat.example:8080", "chat.example"),
            ("http://chat.example", "chat.example:8080"),
            ("https://evil.example", "chat.example"),
            ("https://chat.example.evil", "chat.example"),
            ("capacitor://chat.example", "chat.example"),
            ("null", "null"),
        ] {
            assert!(!is_of(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_with_a_port_or_without() {
        for text in ["", ":80", "a b", "a@b", "a/b", "a:b", "a:70000", "::1", "[::1", "[::1]x", "a,b", "%61"]
        {
            assert_eq!(host_and_port(text), None, "{text}");
        }
        for (text, port) in [("x", None), ("a_b.c:1", Some(1)), ("[::1]", None), ("[::1]:443", Some(443))] {
            assert_eq!(host_and_port(text).map(|(_, port)| port), Some(port), "{text}");
        }
    }

    #[test]
    fn only_localhost_and_addresses_cannot_be_rebound() {
        for name in ["localhost", "LocalHost", "localhost.", "a.localhost", "127.0.0.1", "192.0.2.1", "[::1]"]
        {
            assert!(is_local_or_address(&host(name).unwrap()), "{name}");
        }
        for name in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evillocalhost", "im"]
        {
            assert!(!is_local_or_address(&host(name).unwrap()), "{name}");
        }
    }
}
