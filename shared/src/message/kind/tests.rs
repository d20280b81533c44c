use super::super::fingerprint::FINGERPRINTS;
use super::*;

#[test]
fn a_kind_is_the_same_after_it_was_stored() {
    let body = || Body::new("7".to_owned()).unwrap();
    for kind in [
        MessageKind::Text(body()),
        MessageKind::Image(body()),
        MessageKind::Recall(Seq(7)),
        MessageKind::Recall(Seq::MAX),
        MessageKind::Edit { target: Seq(7), content: Some(body()) },
        MessageKind::Reaction { target: Seq(7), reaction: body(), removes: true },
        MessageKind::Pin { target: Seq(7), removes: false },
        MessageKind::App { msg_type: 100, content: body() },
        MessageKind::System,
        MessageKind::Unknown { msg_type: 9, content: body() },
    ] {
        let (msg_type, content) = (kind.msg_type(), kind.content().into_owned());
        assert_eq!(MessageKind::of_stored(msg_type, &content, kind.change_fields()), kind.as_deref());
        assert_eq!(MessageKind::from_stored(msg_type, content.clone(), kind.change_fields()), kind);
        assert_eq!(kind.into_content(), content);
    }
}

#[test]
fn a_fingerprint_depends_on_kind_and_content_and_never_changes() {
    let text = |body: &str| MessageKind::Text(Body::new(body.to_owned()).unwrap());
    // Stored in Redis: another value would be taken for another content during an upgrade.
    assert_eq!(text("hello").fingerprint().to_string(), "001354659");
    let image = MessageKind::Image(Body::new("7".to_owned()).unwrap());
    for other in [text("8"), image, MessageKind::Recall(Seq(7))] {
        assert_ne!(text("7").fingerprint(), other.fingerprint());
        let number = other.fingerprint().to_string();
        assert_eq!(
            (number.len(), Fingerprint::from_number(number.parse().unwrap())),
            (9, Some(other.fingerprint()))
        );
    }
    assert_eq!(Fingerprint::from_number(-1), None);
    assert_eq!(Fingerprint::from_number(i64::from(FINGERPRINTS)), None);
}

#[test]
fn a_retry_is_told_from_another_content_and_from_another_message() {
    let body = |text: &str| Body::new(text.to_owned()).unwrap();
    let all = [
        MessageKind::Text(body("7")),
        MessageKind::Text(body("8")),
        MessageKind::Image(body("7")),
        MessageKind::Recall(Seq(7)),
        MessageKind::Recall(Seq(8)),
        MessageKind::Edit { target: Seq(7), content: Some(body("7")) },
        MessageKind::Edit { target: Seq(7), content: Some(body("8")) },
        MessageKind::Edit { target: Seq(8), content: Some(body("7")) },
        MessageKind::Reaction { target: Seq(7), reaction: body("7"), removes: false },
        MessageKind::Reaction { target: Seq(7), reaction: body("7"), removes: true },
        MessageKind::Pin { target: Seq(7), removes: false },
        MessageKind::Pin { target: Seq(8), removes: false },
    ];
    for (at, kind) in all.iter().enumerate() {
        for (first_at, first) in all.iter().enumerate() {
            let expected = match (at, first_at) {
                _ if at == first_at => Reuse::Retry,
                (0, 1) | (1, 0) => Reuse::OtherContent,
                _ => Reuse::OtherMessage,
            };
            assert_eq!(kind.reuse_of_kind(first), expected, "{kind:?} {first:?}");
            assert_eq!(kind.reuse_of(first.fingerprint()), expected, "{kind:?} {first:?}");
            let stored = kind.reuse_of_stored(first, false);
            assert_eq!(stored, expected, "{kind:?} {first:?}");
        }
    }
    let blank = |msg_type, fields| MessageKind::from_stored(msg_type, String::new(), fields);
    let none = ChangeFields::default();
    assert_eq!(all[0].reuse_of_stored(&blank(TEXT, none), true), Reuse::Retry, "the content was recalled");
    assert_eq!(all[0].reuse_of_stored(&blank(IMAGE, none), true), Reuse::OtherMessage);
    let edit = blank(EDIT, ChangeFields { target: Some(Seq(7)), ..none });
    assert_eq!(all[5].reuse_of_stored(&edit, true), Reuse::Retry, "what it edited was recalled");
    assert_eq!(all[7].reuse_of_stored(&edit, true), Reuse::OtherMessage);
}

#[test]
fn a_recall_names_a_number_in_plain_decimal() {
    for wrong in ["", "0", "07", "+7", "-7", " 7", "7x", "9007199254740992"] {
        assert_eq!(recalled_number(RECALL, wrong), None, "{wrong:?}");
        assert_eq!(
            MessageKind::of_stored(RECALL, wrong, ChangeFields::default()).recalls(),
            None,
            "{wrong:?}"
        );
    }
    assert_eq!(recalled_number(RECALL, "9007199254740991"), Some(Seq::MAX));
    assert_eq!(recalled_number(TEXT, "7"), None);
}

#[test]
fn a_recalled_message_has_no_body() {
    assert_eq!(
        MessageKind::from_stored(TEXT, String::new(), ChangeFields::default()).as_deref(),
        MessageKind::Text("")
    );
}

#[test]
fn only_changes_have_a_target() {
    let body = || Body::new("7".to_owned()).unwrap();
    assert_eq!(MessageKind::Text(body()).changes(), None);
    assert_eq!(MessageKind::App { msg_type: 100, content: body() }.changes(), None);
    assert_eq!(MessageKind::<Body>::Recall(Seq(3)).changes(), Some(Seq(3)));
    assert_eq!(MessageKind::Edit { target: Seq(4), content: Some(body()) }.changes(), Some(Seq(4)));
    // A row of a later version, or a broken one, is shown as it is.
    let unknown = MessageKind::of_stored(EDIT, "x", ChangeFields::default());
    assert_eq!(unknown, MessageKind::Unknown { msg_type: EDIT, content: "x" });
}
