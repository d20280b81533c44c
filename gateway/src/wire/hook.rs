//! What the hook is asked, and what it answers: docs/hook.md.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::ids::Seq;
use shared::message::{Message, MessageKind};
use shared::meta::Meta;

use super::api_error::ApiError;
use super::chat;
use super::fields::object;
use super::message::MessageView;
use super::name::ConversationName;

/// The type of each request.
const TYPE: &str = "message.sending";
/// Longest sentence of a refusal, in bytes; what is longer is cut.
const SENTENCE_BYTES_MAX: usize = 1_000;
/// The sentence of a refusal that has none.
const NO_SENTENCE: &str = "this message is not allowed here";

#[derive(Serialize)]
struct Request<'a> {
    r#type: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    conversation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    message: MessageView<'a>,
}

/// The body of the request about `message`, which has no sequence number yet.
#[must_use]
pub(crate) fn request(message: &Message) -> Vec<u8> {
    let name = ConversationName::of(&message.conversation, message.sender.as_str());
    let message = MessageView::of(message, Seq::ZERO);
    let data = Data { conversation_id: name.id(), peer: name.peer(), message };
    // Strings, numbers and checked JSON only: serialization cannot fail.
    serde_json::to_vec(&Request { r#type: TYPE, data }).unwrap_or_default()
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The message is accepted as it is.
    Allow,
    /// It is refused, with this sentence for its sender.
    Refuse(String),
    /// It is accepted with another content.
    Replace(Replacement),
}

/// What the hook puts in place of what the sender wrote, unchecked.
#[derive(Debug)]
pub(crate) struct Replacement {
    content: Option<Box<RawValue>>,
    meta: Option<Box<RawValue>>,
}

/// What was replaced in a message, for its sender. What is `None` is as the sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// The content that it has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The `meta` that it has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
}

#[derive(Deserialize)]
struct RawAnswer {
    action: String,
    message: Option<serde_json::Value>,
    content: Option<Box<RawValue>>,
    meta: Option<Box<RawValue>>,
}

impl Answer {
    /// Reads an answer; `None` if it is not understood. A refusal is understood whatever its sentence is.
    #[must_use]
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let RawAnswer { action, message, content, meta } = object(text).ok()?;
        Some(match action.as_str() {
            "allow" => Self::Allow,
            "refuse" => Self::Refuse(sentence(message.as_ref().and_then(serde_json::Value::as_str))),
            "replace" => Self::Replace(Replacement { content, meta }),
            _ => return None,
        })
    }
}

/// The sentence that the sender gets.
fn sentence(given: Option<&str>) -> String {
    let given = given.unwrap_or_default().trim();
    let given = &given[..given.floor_char_boundary(SENTENCE_BYTES_MAX)];
    if given.is_empty() { NO_SENTENCE.to_owned() } else { given.to_owned() }
}

impl Replacement {
    /// Puts the replacement into `message`, by the rules for what a sender writes. `None` if that changes nothing.
    ///
    /// # Errors
    /// The rule that it breaks. `message` is unchanged then.
    pub(crate) fn apply(&self, message: &mut Message) -> Result<Option<Replaced>, String> {
        let (content, meta) = chat::replacement(self.content.as_deref(), self.meta.as_deref())
            .map_err(|error: ApiError| error.message().to_owned())?;
        if content.is_none() && meta.is_none() {
            return Err("there is neither content nor meta".to_owned());
        }
        if matches!(
            message.kind,
            MessageKind::Recall(_) | MessageKind::Reaction { .. } | MessageKind::Pin { .. }
        ) {
            return Err("a recall, a reaction and a pin have no content and no meta".to_owned());
        }
        let content = content.filter(|content| message.kind.body() != Some(content));
        if content.as_ref().is_some_and(|content| content.as_str().is_empty()) && needs_content(message) {
            return Err("payload.content is empty: this message must have content".to_owned());
        }
        let present = message.details.as_deref().and_then(|details| details.meta.as_ref());
        let meta = meta.filter(|meta| present != Some(meta));
        if content.is_none() && meta.is_none() {
            return Ok(None);
        }
        let replaced = Replaced {
            content: content.as_ref().map(|content| content.as_str().to_owned()),
            meta: meta.clone(),
        };
        if let Some(content) = content {
            message.kind.set_content(content);
        }
        if let Some(meta) = meta {
            message.details.get_or_insert_default().meta = Some(meta);
        }
        Ok(Some(replaced))
    }
}

/// Whether the content may not be removed. Of an edit it is not known here which kind of message it edits: one with content
/// stays one with content.
fn needs_content(message: &Message) -> bool {
    match &message.kind {
        MessageKind::Text(_) => true,
        MessageKind::Image(_) => !message.has_files(),
        MessageKind::Edit { content, .. } => {
            content.as_ref().is_some_and(|content| !content.as_str().is_empty())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use shared::message::{Attachment, Body, Details, FileId, fixture};

    use super::*;

    fn body(text: &str) -> Body {
        Body::new_or_empty(text.to_owned()).unwrap()
    }

    fn message(kind: MessageKind) -> Message {
        fixture::with_kind(fixture::numbered("private_alice bob", 1, "alice", "m1"), kind).message
    }

    fn with_file(kind: MessageKind) -> Message {
        let attachments = vec![Attachment::named(FileId::parse(&"0f".repeat(16)).unwrap())];
        Message { details: Some(Box::new(Details { attachments, ..Details::default() })), ..message(kind) }
    }

    #[test]
    fn a_request_has_the_message_as_readers_would_see_it_without_a_number() {
        let mut message = with_file(MessageKind::Image(body("a cat")));
        message.details.as_mut().unwrap().meta = Some(Meta::parse(r#"{"n":1.50}"#).unwrap());
        let text = String::from_utf8(request(&message)).unwrap();
        assert!(text.contains(r#""meta":{"n":1.50}"#), "the text of meta stays: {text}");
        let file = json!({"file_id": "0f".repeat(16), "name": "", "size": 0, "content_type": ""});
        let expected = json!({"type": "message.sending", "data": {
            "conversation_id": "private_alice_bob", "peer": "bob",
            "message": {"msg_id": "m1", "sender_id": "alice", "content": "a cat", "msg_type": 2,
                "send_time": message.send_time_ms, "meta": {"n": 1.5}, "attachments": [file]},
        }});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
        let edit = message_of_edit(None);
        let text = String::from_utf8(request(&edit)).unwrap();
        assert!(text.contains(r#""edit_seq":7,"keeps_content":true"#), "{text}");
    }

    fn message_of_edit(content: Option<&str>) -> Message {
        message(MessageKind::Edit { target: Seq(7), content: content.map(body) })
    }

    #[test]
    fn an_answer_is_an_action_or_not_understood() {
        let parse = |text: &str| Answer::parse(text.as_bytes());
        assert!(matches!(parse(r#"{"action":"allow","later":1}"#), Some(Answer::Allow)));
        let long = "\u{e9}".repeat(600);
        for (text, sentence) in [
            (json!({"action": "refuse", "message": " no links here "}), "no links here"),
            (json!({"action": "refuse", "message": ""}), NO_SENTENCE),
            (json!({"action": "refuse", "message": 7}), NO_SENTENCE),
            (json!({"action": "refuse"}), NO_SENTENCE),
            (json!({"action": "refuse", "message": long}), &long[..1_000]),
        ] {
            let Some(Answer::Refuse(found)) = parse(&text.to_string()) else { panic!("{text}") };
            assert_eq!(found, sentence);
        }
        assert!(
            matches!(parse(r#"{"action":"replace"}"#), Some(Answer::Replace(_))),
            "refused when it is applied"
        );
        for wrong in [
            "",
            "{}",
            "null",
            "[]",
            "allow",
            r#""allow""#,
            r#"["allow"]"#,
            r#"{"action":"Allow"}"#,
            r#"{"action":1}"#,
            r#"{"action":"allow""#,
            r#"{"action":"allow"} x"#,
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
        assert!(Answer::parse(b"\xff").is_none());
    }

    fn apply(message: &mut Message, answer: &serde_json::Value) -> Result<Option<Replaced>, String> {
        let Some(Answer::Replace(replacement)) = Answer::parse(answer.to_string().as_bytes()) else {
            panic!("{answer}")
        };
        replacement.apply(message)
    }

    #[test]
    fn a_replacement_follows_the_rules_of_the_kind() {
        let recall = message(MessageKind::Recall(Seq(1)));
        let pin = message(MessageKind::Pin { target: Seq(1), removes: false });
        let app = message(MessageKind::App { msg_type: 100, content: body("x") });
        let (text, image) = (message(fixture::text("x")), message(MessageKind::Image(body("x"))));
        let (with_picture, file) =
            (with_file(MessageKind::Image(body("x"))), with_file(MessageKind::File(body("x"))));
        let (edit, of_meta) = (message_of_edit(Some("x")), message_of_edit(None));
        let (new, empty, meta) =
            (json!({"content": "***"}), json!({"content": ""}), json!({"meta": {"a": 1}}));
        for (message, allowed) in [
            (&text, [true, false, true]),
            (&image, [true, false, true]),
            (&with_picture, [true, true, true]),
            (&file, [true, true, true]),
            (&app, [true, true, true]),
            (&edit, [true, false, true]),
            (&of_meta, [true, true, true]),
            (&recall, [false; 3]),
            (&pin, [false; 3]),
        ] {
            for (answer, is_allowed) in [&new, &empty, &meta].into_iter().zip(allowed) {
                let mut answer = answer.clone();
                answer["action"] = json!("replace");
                let mut changed = message.clone();
                let result = apply(&mut changed, &answer);
                assert_eq!(result.is_ok(), is_allowed, "{:?} {answer}: {result:?}", message.kind);
                assert_eq!(changed != *message, is_allowed, "{:?} {answer}", message.kind);
                if let Ok(Some(replaced)) = result {
                    assert_eq!(replaced.content.as_deref(), answer["content"].as_str());
                    assert_eq!(replaced.meta.is_some(), answer["meta"].is_object());
                }
            }
        }
    }

    #[test]
    fn what_breaks_a_rule_of_senders_is_refused_and_what_changes_nothing_is_nothing() {
        for (answer, rule) in [
            (json!({"action": "replace"}), "neither"),
            (json!({"action": "replace", "content": null, "meta": null}), "neither"),
            (json!({"action": "replace", "content": 7}), "string"),
            (json!({"action": "replace", "content": "x".repeat(4_097)}), "4097 bytes"),
            (json!({"action": "replace", "meta": [1]}), "object"),
            (json!({"action": "replace", "meta": {"a": "x".repeat(2_048)}}), "at most 2048"),
            (json!({"action": "replace", "content": "ok", "meta": "x"}), "object"),
        ] {
            let mut text = message(fixture::text("x"));
            let error = apply(&mut text, &answer).unwrap_err();
            assert!(error.contains(rule), "{rule}: {error}");
            assert_eq!(text, message(fixture::text("x")), "half of it was applied");
        }
        let mut text = message(fixture::text("x"));
        assert_eq!(apply(&mut text, &json!({"action": "replace", "content": "x"})), Ok(None));
        let meta = json!({"action": "replace", "meta": {"a": 1}});
        assert!(apply(&mut text, &meta).unwrap().is_some());
        assert_eq!(apply(&mut text, &meta), Ok(None));
    }

    proptest! {
        #[test]
        fn any_body_is_understood_or_not(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Answer::parse(&body);
        }

        /// Whatever is answered, a message that is sent is one that its sender could have sent.
        #[test]
        fn a_replaced_message_is_one_that_a_sender_may_send(content in "(?s).{0,40}", times in 1_usize..200) {
            let content = content.repeat(times);
            let mut text = message(fixture::text("x"));
            let result = apply(&mut text, &json!({"action": "replace", "content": content}));
            let may_send = (1..=4_096).contains(&content.len());
            prop_assert_eq!(result.is_ok(), may_send);
            let expected = if may_send { content.as_str() } else { "x" };
            prop_assert_eq!(&*text.kind.content(), expected);
        }
    }
}
