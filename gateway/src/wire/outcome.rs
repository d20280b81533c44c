//! What the reply to a sent message says, for callers inside the gateway that wait for it.

use serde::Deserialize;

/// The part of a reply that its caller passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// 0 or the code of the refusal.
    pub(crate) code: u16,
    /// The sentence of a refusal.
    pub(crate) message: String,
    /// When to send it again, if the refusal says that.
    pub(crate) retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Reply {
    code: u16,
    payload: Option<Payload>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Payload {
    Message(String),
    Retry {
        message: String,
        retry_after_ms: u64,
    },
    /// Of a reply with code 0.
    Other(serde::de::IgnoredAny),
}

impl Outcome {
    /// Reads a reply that this gateway made; `None` if it is none.
    #[must_use]
    pub(crate) fn of(reply: &str) -> Option<Self> {
        let Reply { code, payload } = serde_json::from_str(reply).ok()?;
        let (message, retry_after_ms) = match payload {
            Some(Payload::Message(message)) => (message, None),
            Some(Payload::Retry { message, retry_after_ms }) => (message, Some(retry_after_ms)),
            Some(Payload::Other(_)) | None => (String::new(), None),
        };
        Some(Self { code, message, retry_after_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_the_code_and_what_a_refusal_says() {
        let of = |code, message: &str, retry_after_ms| {
            Some(Outcome { code, message: message.to_owned(), retry_after_ms })
        };
        for (reply, expected) in [
            (r#"{"cmd":2,"code":0,"payload":{"seq":1}}"#, of(0, "", None)),
            (r#"{"cmd":2,"code":403,"payload":"no"}"#, of(403, "no", None)),
            (
                r#"{"cmd":2,"code":503,"payload":{"message":"later","retry_after_ms":7}}"#,
                of(503, "later", Some(7)),
            ),
            ("{}", None),
        ] {
            assert_eq!(Outcome::of(reply), expected, "{reply}");
        }
    }
}
