//! Answers by which a server of a cluster sends a command elsewhere. Pure.

/// Host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where to send the command instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// All commands for this slot go to this server from now on.
    Moved(u16, Address),
    /// The slot is being moved: this command alone goes to this server, after `ASKING`.
    Ask(Address),
    /// The slot is being moved, and one of the command's keys has moved while another has not: the same again, in a moment.
    TryAgain,
}

impl Redirect {
    /// The redirect in the text of an error that `from` answered, if it is one.
    pub(super) fn of(error: &str, from: &Address) -> Option<Self> {
        let mut words = error.split(' ');
        let kind = words.next()?;
        if kind == "TRYAGAIN" {
            return Some(Self::TryAgain);
        }
        if !matches!(kind, "MOVED" | "ASK") {
            return None;
        }
        let slot = words.next()?.parse().ok()?;
        // An IPv6 address has colons too.
        let (host, port) = words.next()?.rsplit_once(':')?;
        // A server that does not know its own host leaves it out.
        let host = if host.is_empty() { &from.host } else { host };
        let to = Address { host: host.to_owned(), port: port.parse().ok()? };
        Some(if kind == "MOVED" { Self::Moved(slot, to) } else { Self::Ask(to) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_names_the_server() {
        let from = Address { host: "10.0.0.1".to_owned(), port: 6379 };
        let to = |host: &str, port| Address { host: host.to_owned(), port };
        for (error, redirect) in [
            ("MOVED 3999 10.0.0.2:6381", Some(Redirect::Moved(3_999, to("10.0.0.2", 6_381)))),
            ("MOVED 3999 :6381", Some(Redirect::Moved(3_999, to("10.0.0.1", 6_381)))),
            ("ASK 16383 redis-2.local:6379", Some(Redirect::Ask(to("redis-2.local", 6_379)))),
            ("ASK 1 ::1:7000", Some(Redirect::Ask(to("::1", 7_000)))),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Some(Redirect::TryAgain)),
            ("MOVED x 10.0.0.2:6381", None),
            ("MOVED 1 10.0.0.2", None),
            ("CLUSTERDOWN The cluster is down", None),
            ("", None),
        ] {
            assert_eq!(Redirect::of(error, &from), redirect, "{error}");
        }
    }
}
