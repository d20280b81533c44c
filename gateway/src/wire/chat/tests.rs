use super::*;
use crate::wire::request::{self, Request};

fn parsed(payload: &str) -> Result<ChatRequest, (u16, String)> {
    match request::parse(&format!(r#"{{"cmd":2,"conversation_id":"group_1","payload":{payload}}}"#)) {
        Ok((_, Request::Chat(chat))) => Ok(chat),
        Ok((_, other)) => panic!("{other:?}"),
        Err((_, refusal)) => Err((refusal.code(), refusal.message().to_owned())),
    }
}

fn kind_of(payload: &str) -> MessageKind {
    parsed(payload).unwrap_or_else(|error| panic!("{payload}: {error:?}")).kind
}

fn details_of(payload: &str) -> Details {
    *parsed(payload).unwrap_or_else(|error| panic!("{payload}: {error:?}")).details.unwrap_or_default()
}

#[test]
fn a_send_time_is_one_that_every_client_can_show() {
    let sent_at =
        |text: &str| parsed(&format!(r#"{{"content":"x","send_time":{text}}}"#)).map(|c| c.send_time_ms);
    for (text, expected) in [
        ("0", Some(0)),
        ("1700000000000", Some(1_700_000_000_000)),
        ("8640000000000000", Some(8_640_000_000_000_000)),
        ("null", None),
    ] {
        assert_eq!(sent_at(text), Ok(expected), "{text}");
    }
    for text in
        ["-1", "8640000000000001", "9007199254740991", "9223372036854775807", "-9223372036854775808", "\"5\""]
    {
        assert_eq!(sent_at(text), Err((400, SEND_TIMES.to_owned())), "{text}");
    }
}

#[test]
fn changes_name_the_message_that_they_change() {
    let body = |text: &str| Body::new_or_empty(text.to_owned()).unwrap();
    assert_eq!(
        kind_of(r#"{"msg_type":4,"edit_seq":7,"content":"new"}"#),
        MessageKind::Edit { target: Seq(7), content: Some(body("new")) }
    );
    assert_eq!(
        kind_of(r#"{"msg_type":4,"edit_seq":7,"content":null,"meta":{}}"#),
        MessageKind::Edit { target: Seq(7), content: None }
    );
    assert_eq!(
        kind_of(r#"{"msg_type":5,"react_seq":7,"reaction":"+1","remove":true}"#),
        MessageKind::Reaction { target: Seq(7), reaction: body("+1"), removes: true }
    );
    assert_eq!(
        kind_of(r#"{"msg_type":6,"pin_seq":7.0}"#),
        MessageKind::Pin { target: Seq(7), removes: false }
    );
    for (payload, field) in [
        (r#"{"msg_type":4,"content":"x"}"#, "edit_seq"),
        (r#"{"msg_type":4,"edit_seq":0,"content":"x"}"#, "edit_seq"),
        (r#"{"msg_type":4,"edit_seq":7}"#, "an edit changes"),
        (r#"{"msg_type":4,"edit_seq":7,"content":null,"mentions":null}"#, "an edit changes"),
        (r#"{"msg_type":5,"react_seq":"7","reaction":"x"}"#, "react_seq"),
        (r#"{"msg_type":5,"react_seq":7}"#, "payload.reaction"),
        (r#"{"msg_type":5,"react_seq":7,"reaction":""}"#, "payload.reaction"),
        (r#"{"msg_type":5,"react_seq":7,"reaction":"a b"}"#, "payload.reaction"),
        (r#"{"msg_type":5,"react_seq":7,"reaction":"\ud83d"}"#, "payload.reaction"),
        (
            r#"{"msg_type":5,"react_seq":7,"reaction":"123456789012345678901234567890123"}"#,
            "payload.reaction",
        ),
        (r#"{"msg_type":5,"react_seq":7,"reaction":"x","remove":1}"#, "payload.remove"),
        (r#"{"msg_type":6,"remove":true}"#, "pin_seq"),
        (r#"{"msg_type":7,"content":"x"}"#, "payload.attachments"),
        (r#"{"msg_type":8,"content":"x"}"#, "server only"),
        (r#"{"msg_type":9,"content":"x"}"#, "payload.msg_type"),
        (r#"{"msg_type":256,"content":"x"}"#, "payload.msg_type"),
    ] {
        let (code, message) = parsed(payload).unwrap_err();
        assert!(code == 400 && message.contains(field), "{payload}: {code} {message}");
    }
}

#[test]
fn types_of_the_app_have_content_or_meta() {
    let app = |content: &str| MessageKind::App {
        msg_type: 100,
        content: Body::new_or_empty(content.to_owned()).unwrap(),
    };
    assert_eq!(kind_of(r#"{"msg_type":100,"content":"x"}"#), app("x"));
    assert_eq!(kind_of(r#"{"msg_type":100,"meta":{"a":1}}"#), app(""));
    assert_eq!(kind_of(r#"{"msg_type":255,"content":""}"#).msg_type(), 255);
    assert_eq!(parsed(r#"{"msg_type":100}"#).unwrap_err().0, 400);
}

#[test]
fn details_are_read_and_a_plain_message_has_none() {
    assert_eq!(parsed(r#"{"content":"x"}"#).unwrap().details, None);
    let all = details_of(r#"{"content":"x","meta":{"b":1.50, "a":2},"reply_to":3,"mentions":["bob"]}"#);
    assert_eq!(all.meta.unwrap().as_str(), r#"{"b":1.50, "a":2}"#, "the text stays");
    assert_eq!(all.reply_to, Some(Seq(3)));
    assert_eq!(all.mentions, Some(Mentions::parse(&["bob"]).unwrap()));
    assert_eq!(details_of(r#"{"content":"x","mentions":["*"]}"#).mentions, Some(Mentions::Everyone));
    let none = r#"{"content":"x","meta":null,"reply_to":null,"mentions":[]}"#;
    assert_eq!(parsed(none).unwrap().details, None);
    let edit = details_of(r#"{"msg_type":4,"edit_seq":7,"meta":{},"mentions":[],"reply_to":3}"#);
    assert!(edit.meta.unwrap().is_empty() && edit.mentions.unwrap().is_empty());
    assert_eq!(edit.reply_to, None, "an edit does not change the message that is answered");
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(2_048));
    let many = format!("[{}]", vec!["\"bob\""; 51].join(","));
    for (payload, code, why) in [
        (r#"{"content":"x","meta":[]}"#.to_owned(), 400, "payload.meta must be a JSON object"),
        (r#"{"content":"x","meta":{"a":1,"a":2}}"#.to_owned(), 400, "twice"),
        (format!(r#"{{"content":"x","meta":{deep}}}"#), 400, "deeper"),
        (format!(r#"{{"content":"x","meta":{long}}}"#), 413, "payload.meta has"),
        (r#"{"content":"x","reply_to":0}"#.to_owned(), 400, "payload.reply_to"),
        (r#"{"content":"x","mentions":"bob"}"#.to_owned(), 400, "payload.mentions"),
        (r#"{"content":"x","mentions":["a b"]}"#.to_owned(), 400, "payload.mentions"),
        (r#"{"content":"x","mentions":["*","bob"]}"#.to_owned(), 400, "alone"),
        (format!(r#"{{"content":"x","mentions":{many}}}"#), 400, "51"),
    ] {
        let (got, message) = parsed(&payload).unwrap_err();
        assert!(got == code && message.contains(why), "{payload}: {got} {message}");
    }
}
