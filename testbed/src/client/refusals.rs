//! Refusals by code, and the setting of a gateway that most likely caused each.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Different sentences that are kept; a gateway has fewer.
const SENTENCES_MAX: usize = 64;

/// The request that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// A message (cmd 2).
    Message,
    /// A pull or a sync (cmd 3 and 6).
    Read,
    /// The upgrade to a WebSocket; the code is the HTTP status.
    Connect,
    /// An open connection, which the gateway closed; the code is the close code.
    Connection,
}

/// Refusals of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The request that was refused.
    pub request: Request,
    /// The code of the reply, the HTTP status, or the close code.
    pub code: u16,
    /// The gateway's sentence.
    pub message: String,
    /// How often.
    pub count: u64,
    /// The setting that most likely caused it, with its default; or what to look at.
    pub cause: String,
}

/// Counts refusals by request, code and sentence.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<(Request, u16, String), u64>>);

impl Refusals {
    /// Counts one.
    pub fn count(&self, request: Request, code: u16, message: &str) {
        let mut counts = self.0.lock();
        let key = (request, code, message.to_owned());
        let known = counts.len() < SENTENCES_MAX || counts.contains_key(&key);
        // Beyond the limit the sentence is lost, not the refusal.
        let key = if known { key } else { (request, code, String::new()) };
        *counts.entry(key).or_default() += 1;
    }

    /// All of them, the most frequent first.
    #[must_use]
    pub fn list(&self) -> Vec<Refusal> {
        let refusal = |(key, count): (&(Request, u16, String), &u64)| {
            let (request, code, message) = key.clone();
            Refusal {
                request,
                code,
                cause: cause(request, code, &message).to_owned(),
                message,
                count: *count,
            }
        };
        let mut list: Vec<Refusal> = self.0.lock().iter().map(refusal).collect();
        list.sort_by_key(|refusal| std::cmp::Reverse(refusal.count));
        list
    }

    /// Adds what another list counted.
    pub fn add(&self, list: &[Refusal]) {
        let mut counts = self.0.lock();
        for refusal in list {
            let key = (refusal.request, refusal.code, refusal.message.clone());
            *counts.entry(key).or_default() += refusal.count;
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, code, message, count, cause } = self;
        let what = match request {
            Request::Message => "messages refused with",
            Request::Read => "pulls and syncs refused with",
            Request::Connect => "connections refused with",
            Request::Connection => "connections closed with",
        };
        write!(f, "{count} {what} {code}")?;
        if !message.is_empty() {
            write!(f, " (\"{message}\")")?;
        }
        write!(f, ": {cause}")
    }
}

/// The setting that most likely caused a refusal, with its default. The sentence of the gateway only decides between the
/// causes that share a code; a sentence that is not known here leaves all of them.
#[must_use]
pub fn cause(request: Request, code: u16, message: &str) -> &'static str {
    let says = |part: &str| message.contains(part);
    match (request, code) {
        (Request::Message, 429) => {
            "limits.user_messages_per_second (50 by default), and limits.user_messages_burst (200) after a pause"
        }
        (Request::Message, 503) if says("in flight") => "limits.messages_in_flight_max (50000 by default)",
        (Request::Message, 503) if says("in time") => "limits.request_deadline_ms (5000 by default)",
        (Request::Message, 503) => {
            "Redis, RabbitMQ or MySQL does not answer (see /readyz), or limits.messages_in_flight_max (50000 by \
             default), limits.shard_queue_messages_max (50000) or limits.request_deadline_ms (5000)"
        }
        (Request::Read, 503) => {
            "MySQL or Redis does not answer (see /readyz), or limits.request_deadline_ms (5000 by default)"
        }
        (Request::Message | Request::Read, 403) => {
            "the user is not a member of the conversation, is muted, or is blocked"
        }
        (Request::Message | Request::Read, 404) => {
            "the group does not exist (groups.auto_create is off by default)"
        }
        (Request::Message, 413) => "content is limited to 4096 bytes by the protocol",
        (Request::Connect, 401) => {
            "the gateway does not accept the token (auth.hs256_secret, auth.audience, auth.issuer), or wants one \
             (auth.mode = \"jwt\")"
        }
        (Request::Connect, 403) => "listen.allowed_origins",
        (Request::Connection, 1009) => "frames are limited to 64 KiB by the protocol",
        (Request::Connection, 1012) => {
            "limits.logins_waiting_max (10000 by default), or the gateway is shutting down"
        }
        (Request::Connection, 4401) => "timeouts.login_ms (10000 by default), or the token is not accepted",
        (Request::Connection, 4403) => "listen.allowed_origins, or listen.hosts",
        (Request::Connection, 4402) => "the token expired, or the tokens of the user were revoked",
        (Request::Connection, 4408) => "timeouts.heartbeat_ms (30000 by default), three times over",
        (Request::Connection, 4409) => "another connection of the same user and device",
        (Request::Connection, 4413) => "timeouts.stalled_ms (30000 by default): the client reads too slowly",
        (Request::Connection, 4429) => {
            "limits.connections_per_user_max (32 by default), or limits.malformed_frames_max (64)"
        }
        (_, 429) if message.contains("share of this gateway") => {
            "limits.user_cost_per_second (10000 by default), or the client does not read its replies"
        }
        (_, 429) => {
            "limits.user_calls_per_second (20 by default) or limits.address_calls_per_second (100), and their bursts"
        }
        (_, 500) => "a fault in the gateway: see its log",
        _ => "no setting is known for this code: see the gateway's log and docs/protocol.md",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_the_setting_that_most_likely_caused_it() {
        use Request::{Connect, Connection, Message, Read};
        for (request, code, message, setting) in [
            (Message, 429, "you send faster than allowed", "limits.user_messages_per_second (50"),
            (
                Message,
                503,
                "as many messages in flight as it can hold",
                "limits.messages_in_flight_max (50000",
            ),
            (Message, 503, "the message was not stored in time", "limits.request_deadline_ms (5000"),
            (Message, 503, "message numbers are not available", "/readyz"),
            (Message, 403, "", "not a member"),
            (Message, 404, "", "groups.auto_create"),
            (Message, 413, "", "4096"),
            (Message, 500, "", "its log"),
            (Read, 503, "the database is unavailable", "MySQL or Redis"),
            (Connect, 401, "", "auth.hs256_secret"),
            (Connection, 4429, "", "limits.connections_per_user_max (32"),
            (Connection, 1012, "", "limits.logins_waiting_max (10000"),
            (Connection, 4408, "", "timeouts.heartbeat_ms (30000"),
            (Connection, 4413, "", "timeouts.stalled_ms (30000"),
            (Read, 429, "", "limits.user_calls_per_second (20"),
            (Read, 429, "more than your share of this gateway", "limits.user_cost_per_second (10000"),
            (Connection, 4999, "", "no setting is known"),
        ] {
            let cause = cause(request, code, message);
            assert!(cause.contains(setting), "{request:?} {code} {message}: {cause}");
        }
    }

    #[test]
    fn refusals_are_counted_by_code_and_sentence_and_memory_is_bounded() {
        let refusals = Refusals::default();
        refusals.count(Request::Message, 503, "rare");
        for _ in 0..3 {
            refusals.count(Request::Message, 429, "too fast");
        }
        let list = refusals.list();
        assert_eq!(list.iter().map(|refusal| refusal.count).collect::<Vec<_>>(), [3, 1]);
        let shown = list[0].to_string();
        assert!(
            shown.starts_with("3 messages refused with 429 (\"too fast\"): limits.user_messages"),
            "{shown}"
        );
        (0..1_000).for_each(|n| refusals.count(Request::Read, 503, &n.to_string()));
        assert!(refusals.list().len() <= SENTENCES_MAX + 1);
        assert_eq!(refusals.list().iter().map(|refusal| refusal.count).sum::<u64>(), 1_004);
    }
}
