//! Replies to pulls, read as fast as they come: a page is searched, not parsed.

use std::time::Duration;

use anyhow::Context as _;

use testbed::client::Packet;

/// The reply to a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PageReply {
    Page(PageEnd),
    /// To be sent again after some time.
    Refused {
        code: u16,
        message: String,
        retry_after: Duration,
    },
}

/// What a client needs of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageEnd {
    pub(super) next_cursor: u64,
    pub(super) has_more: bool,
}

/// Reads the end of a page, where the gateway puts the fields that are not messages; or the refusal.
pub(super) fn page_reply(text: &str) -> anyhow::Result<PageReply> {
    if !text.starts_with(r#"{"cmd":3,"code":0,"#) {
        return refusal(text);
    }
    let name = r#""next_cursor_seq":"#;
    let at = text.rfind(name).context("a page without next_cursor_seq")? + name.len();
    let rest = &text[at..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Ok(PageReply::Page(PageEnd {
        next_cursor: rest[..end].parse()?,
        has_more: rest.contains(r#""has_more":true"#),
    }))
}

fn refusal(text: &str) -> anyhow::Result<PageReply> {
    let reply: Packet = serde_json::from_str(text).with_context(|| format!("not the protocol: {text}"))?;
    let wait = reply.retry_after_ms().with_context(|| format!("a pull was refused: {text}"))?;
    let message = reply.payload["message"].as_str().unwrap_or_default().to_owned();
    Ok(PageReply::Refused { code: reply.code, message, retry_after: Duration::from_millis(wait) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_page_says_where_to_go_on() {
        let page = r#"{"cmd":3,"code":0,"conversation_id":"c","payload":[{"content":"\"next_cursor_seq\":7"}],"next_cursor_seq":12,"has_more":true}"#;
        let end = PageEnd { next_cursor: 12, has_more: true };
        assert_eq!(page_reply(page).unwrap(), PageReply::Page(end));
    }

    #[test]
    fn a_refusal_names_its_code_and_the_time_to_wait() {
        let late = r#"{"cmd":3,"code":503,"payload":{"message":"try again","retry_after_ms":200}}"#;
        let refused = PageReply::Refused {
            code: 503,
            message: "try again".to_owned(),
            retry_after: Duration::from_millis(200),
        };
        assert_eq!(page_reply(late).unwrap(), refused);
        assert!(page_reply(r#"{"cmd":3,"code":403,"payload":"not a member"}"#).is_err());
        assert!(page_reply("no JSON").is_err());
    }
}
