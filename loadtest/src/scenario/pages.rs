//! Reading pages as fast as they come: frames are looked at, not parsed.

use anyhow::Context as _;

/// What a client needs of a pull's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageEnd {
    pub(super) next_cursor: u64,
    pub(super) has_more: bool,
}

/// Reads the end of a pull's reply, where the protocol's server puts what is not a message.
pub(super) fn page_end(text: &str) -> anyhow::Result<PageEnd> {
    anyhow::ensure!(text.starts_with(r#"{"cmd":3,"code":0,"#), "no page: {}", &text[..text.len().min(200)]);
    let name = r#""next_cursor_seq":"#;
    let at = text.rfind(name).context("a page without next_cursor_seq")? + name.len();
    let rest = &text[at..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Ok(PageEnd { next_cursor: rest[..end].parse()?, has_more: rest.contains(r#""has_more":true"#) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_page_says_where_to_go_on() {
        let page = r#"{"cmd":3,"code":0,"conversation_id":"c","payload":[{"content":"\"next_cursor_seq\":7"}],"next_cursor_seq":12,"has_more":true}"#;
        assert_eq!(page_end(page).unwrap(), PageEnd { next_cursor: 12, has_more: true });
        assert!(page_end(r#"{"cmd":3,"code":503}"#).is_err());
    }
}
