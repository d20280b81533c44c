//! Parsing of requests.
//!
//! Every field is parsed on its own, so that the error names the wrong one, and so that the reply can repeat `cmd`,
//! `msg_id` and `conversation_id` even if other fields are unusable.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::ids::{DeviceId, Seq, UserId};

use super::api_error::ApiError;
use super::chat::ChatRequest;
pub use super::cmd::Cmd;
use super::fields::{object, text_field, value, whole};
use super::watch;

/// Messages per pull without `limit`.
const PULL_LIMIT_DEFAULT: u16 = 50;
/// Largest `limit` of a pull.
const PULL_LIMIT_MAX: u16 = 500;
/// Conversations per sync without `limit`.
const SYNC_LIMIT_DEFAULT: u16 = 100;
/// Largest `limit` of a sync.
pub const SYNC_LIMIT_MAX: u16 = 500;
/// Longer ids are invalid, and the reply does not repeat them.
const ECHO_BYTES_MAX: usize = 1_024;

/// The fields that a reply repeats, as far as they are readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo<'a> {
    /// From the request, or -1.
    pub cmd: i64,
    /// From the request.
    pub msg_id: Option<Cow<'a, str>>,
    /// From the request.
    pub conversation_id: Option<Cow<'a, str>>,
    /// From the request: the other user of a private conversation. Not repeated; the reply has `peer` instead.
    pub to: Option<Cow<'a, str>>,
}

impl Echo<'_> {
    /// The error reply to this request.
    #[must_use]
    pub fn refuse(&self, refusal: &ApiError) -> tokio_tungstenite::tungstenite::Utf8Bytes {
        refusal.frame(self.cmd, self.msg_id.as_deref(), self.conversation_id.as_deref())
    }
}

/// A well-formed request. Its conversation is in [`Echo::conversation_id`], as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// cmd 0, with the sync cursor, if the client sent one.
    Heartbeat(Option<u64>),
    /// cmd 1
    Login {
        /// The JWT.
        token: String,
        /// The device, if the client named one.
        device: Option<DeviceId>,
    },
    /// cmd 2
    Chat(ChatRequest),
    /// cmd 3
    Pull(PullRequest),
    /// cmd 4
    Ack(Seq),
    /// cmd 6
    Sync(SyncRequest),
    /// cmd 8
    Typing,
    /// cmd 9: the users to watch, at most 200.
    Watch(Vec<UserId>),
}

impl Request {
    /// Whether `conversation_id` is required.
    #[must_use]
    pub fn needs_conversation(&self) -> bool {
        matches!(self, Self::Chat(_) | Self::Pull(_) | Self::Ack(_) | Self::Typing)
    }
}

/// A request for the conversations that changed since a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncRequest {
    /// The cursor of an earlier sync; 0 for the complete list.
    pub cursor: u64,
    /// 1 to 500.
    pub limit: u16,
}

/// A request for a page of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullRequest {
    /// The page begins after this sequence number, or, backward, below it.
    pub cursor: Seq,
    /// 1 to 500.
    pub limit: u16,
    /// Newest first, below the cursor.
    pub backward: bool,
    /// Change entries are on the page, too.
    pub changes: bool,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    cmd: Option<&'a RawValue>,
    #[serde(borrow, default)]
    msg_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    conversation_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    to: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cursor_seq: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Payload<'a> {
    #[serde(borrow, default)]
    token: Option<&'a RawValue>,
    #[serde(borrow, default)]
    device_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    limit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    direction: Option<&'a RawValue>,
    #[serde(borrow, default)]
    changes: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user_ids: Option<&'a RawValue>,
}

/// Parses one text frame.
///
/// # Errors
/// The error, and the fields that its reply repeats.
pub fn parse(text: &str) -> Result<(Echo<'_>, Request), (Echo<'_>, ApiError)> {
    let mut echo = Echo { cmd: Cmd::UNKNOWN, msg_id: None, conversation_id: None, to: None };
    let fields: Fields<'_> = match object(text) {
        Ok(fields) => fields,
        Err(why) => {
            return Err((echo, ApiError::malformed(format!("send one JSON object per frame: {why}"))));
        }
    };
    let short = |raw: Option<&'_ RawValue>| raw.filter(|raw| raw.get().len() <= ECHO_BYTES_MAX).is_some();
    let (msg_id, conversation_id) = (text_field(fields.msg_id), text_field(fields.conversation_id));
    echo.msg_id = msg_id.clone().unwrap_or_default().filter(|_| short(fields.msg_id));
    echo.conversation_id =
        conversation_id.clone().unwrap_or_default().filter(|_| short(fields.conversation_id));
    match request(&fields, &mut echo, msg_id, conversation_id) {
        Ok(request) => Ok((echo, request)),
        Err(refusal) => Err((echo, refusal)),
    }
}

type TextField<'a> = Result<Option<Cow<'a, str>>, ()>;

fn request<'a>(
    fields: &Fields<'a>,
    echo: &mut Echo<'a>,
    msg_id: TextField<'a>,
    conversation_id: TextField<'a>,
) -> Result<Request, ApiError> {
    let cmd: Option<i64> = whole(fields.cmd, "cmd must be an integer")?;
    echo.cmd = cmd.ok_or_else(|| ApiError::Malformed(format!("cmd is missing: {COMMANDS}")))?;
    let msg_id = msg_id.map_err(|()| ApiError::malformed("msg_id must be a string"))?;
    let conversation_id =
        conversation_id.map_err(|()| ApiError::malformed("conversation_id must be a string"))?;
    let request = match echo.cmd {
        Cmd::HEARTBEAT => Request::Heartbeat(cursor(fields)?.map(|cursor| cursor.0)),
        Cmd::LOGIN => login(&payload(fields)?)?,
        Cmd::CHAT => Request::Chat(ChatRequest::parse(msg_id, &payload(fields)?)?),
        Cmd::PULL => Request::Pull(pull(fields, &payload(fields)?)?),
        Cmd::ACK => {
            let cursor = cursor(fields)?;
            Request::Ack(cursor.ok_or_else(|| {
                ApiError::malformed("cursor_seq is missing: send the seq up to which the user has read")
            })?)
        }
        Cmd::SYNC => Request::Sync(sync(fields, &payload(fields)?)?),
        Cmd::TYPING => Request::Typing,
        Cmd::WATCH => Request::Watch(watch::parse(payload::<Payload<'_>>(fields)?.user_ids)?),
        other => {
            return Err(ApiError::Malformed(format!("cmd {other} is unknown: {COMMANDS}")));
        }
    };
    if request.needs_conversation() {
        echo.to = value(fields.to, "to must be the id of a user")?;
        match (&conversation_id, &echo.to) {
            (Some(_), Some(_)) => {
                return Err(ApiError::malformed("send conversation_id or to, not both"));
            }
            (None, None) => return Err(ApiError::malformed("conversation_id is missing")),
            _ => {}
        }
    }
    Ok(request)
}

const COMMANDS: &str = "0 heartbeat, 1 login, 2 chat, 3 pull, 4 ack, 6 sync, 8 typing, 9 watch";

fn login(payload: &Payload<'_>) -> Result<Request, ApiError> {
    let token: Option<String> = value(payload.token, "payload.token must be a string")?;
    let token = token.ok_or_else(|| ApiError::malformed("payload.token is missing"))?;
    let device: Option<Cow<'_, str>> = value(payload.device_id, "payload.device_id must be a string")?;
    let device = device.map(|id| DeviceId::parse(&id)).transpose().map_err(ApiError::malformed)?;
    Ok(Request::Login { token, device })
}

fn pull(fields: &Fields<'_>, payload: &Payload<'_>) -> Result<PullRequest, ApiError> {
    let limits = "payload.limit must be 1 to 500";
    let limit: Option<u16> = whole(payload.limit, limits)?;
    let limit = limit.unwrap_or(PULL_LIMIT_DEFAULT);
    if !(1..=PULL_LIMIT_MAX).contains(&limit) {
        return Err(ApiError::malformed(limits));
    }
    let directions = "payload.direction must be \"forward\" (default) or \"backward\"";
    let direction: Option<Cow<'_, str>> = value(payload.direction, directions)?;
    let backward = match direction.as_deref() {
        None | Some("forward") => false,
        Some("backward") => true,
        Some(_) => return Err(ApiError::malformed(directions)),
    };
    let changes: Option<bool> = value(payload.changes, "payload.changes must be true or false")?;
    let changes = changes.unwrap_or(true);
    Ok(PullRequest { cursor: cursor(fields)?.unwrap_or(Seq::ZERO), limit, backward, changes })
}

fn sync(fields: &Fields<'_>, payload: &Payload<'_>) -> Result<SyncRequest, ApiError> {
    let limits = "payload.limit must be 1 to 500";
    let limit: Option<u16> = whole(payload.limit, limits)?;
    let limit = limit.unwrap_or(SYNC_LIMIT_DEFAULT);
    if !(1..=SYNC_LIMIT_MAX).contains(&limit) {
        return Err(ApiError::malformed(limits));
    }
    Ok(SyncRequest { cursor: cursor(fields)?.unwrap_or(Seq::ZERO).0, limit })
}

fn cursor(fields: &Fields<'_>) -> Result<Option<Seq>, ApiError> {
    let rule = "cursor_seq must be an integer from 0 to 2^53 - 1";
    let cursor: Option<u64> = whole(fields.cursor_seq, rule)?;
    match cursor {
        Some(cursor) if cursor > Seq::MAX.0 => Err(ApiError::malformed(rule)),
        cursor => Ok(cursor.map(Seq)),
    }
}

fn payload<'a, P: Deserialize<'a> + Default>(fields: &Fields<'a>) -> Result<P, ApiError> {
    match fields.payload.map(RawValue::get) {
        None | Some("null") => Ok(P::default()),
        Some(text) => object(text).map_err(|_| ApiError::malformed("payload must be an object")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::message::MessageKind;

    use super::*;

    fn refused(text: &str) -> (i64, u16, String) {
        let (echo, refusal) = parse(text).unwrap_err();
        (echo.cmd, refusal.code(), refusal.message().to_owned())
    }

    #[test]
    fn a_chat_is_parsed_with_all_fields_and_with_the_required_ones() {
        let (echo, request) = parse(
            r#"{"cmd":2,"msg_id":"m1","conversation_id":"group_1","payload":{"content":"h\ni","msg_type":2,"send_time":5,"ack":"stored","x":[]},"y":{}}"#,
        )
        .unwrap();
        assert_eq!(echo.conversation_id.as_deref(), Some("group_1"));
        let Request::Chat(chat) = request else { panic!("{request:?}") };
        assert_eq!(chat.msg_id.unwrap().as_str(), "m1");
        assert_eq!((chat.kind.as_deref(), chat.send_time_ms), (MessageKind::Image("h\ni"), Some(5)));
        assert!(chat.reply_when_stored);
        let (_, request) =
            parse(r#"{"cmd":2,"msg_id":null,"conversation_id":"c","payload":{"content":"x"}}"#).unwrap();
        let Request::Chat(chat) = request else { panic!("{request:?}") };
        assert_eq!(
            (chat.msg_id, chat.kind.as_deref(), chat.send_time_ms, chat.reply_when_stored),
            (None, MessageKind::Text("x"), None, false)
        );
    }

    #[test]
    fn syncs_heartbeats_and_recalls_are_parsed() {
        let request = |text: &str| parse(text).unwrap().1;
        assert_eq!(request(r#"{"cmd":0,"cursor_seq":57}"#), Request::Heartbeat(Some(57)));
        assert_eq!(request(r#"{"cmd":6}"#), Request::Sync(SyncRequest { cursor: 0, limit: 100 }));
        assert_eq!(
            request(r#"{"cmd":6,"cursor_seq":57,"payload":{"limit":7}}"#),
            Request::Sync(SyncRequest { cursor: 57, limit: 7 })
        );
        let recall = request(r#"{"cmd":2,"conversation_id":"c","payload":{"msg_type":3,"recall_seq":12}}"#);
        let Request::Chat(chat) = recall else { panic!("{recall:?}") };
        assert_eq!(chat.kind, MessageKind::Recall(Seq(12)));
    }

    #[test]
    fn pulls_have_defaults_and_limits() {
        let pull = |text: &str| match parse(text) {
            Ok((_, Request::Pull(pull))) => Ok(pull),
            Ok(other) => panic!("{other:?}"),
            Err((_, refusal)) => Err(refusal.code()),
        };
        let plain = PullRequest { cursor: Seq(0), limit: 50, backward: false, changes: true };
        assert_eq!(pull(r#"{"cmd":3,"conversation_id":"c"}"#), Ok(plain));
        assert_eq!(
            pull(
                r#"{"cmd":3,"conversation_id":"c","cursor_seq":7,"payload":{"limit":500,"direction":"backward"}}"#
            ),
            Ok(PullRequest { cursor: Seq(7), limit: 500, backward: true, changes: true })
        );
        assert_eq!(
            pull(r#"{"cmd":3,"conversation_id":"c","payload":{"changes":false}}"#),
            Ok(PullRequest { changes: false, ..plain })
        );
        for bad in [
            r#"{"cmd":3,"conversation_id":"c","cursor_seq":-1}"#,
            r#"{"cmd":3,"conversation_id":"c","cursor_seq":1.5}"#,
            r#"{"cmd":3,"conversation_id":"c","cursor_seq":9007199254740992}"#,
            r#"{"cmd":3,"conversation_id":"c","payload":{"limit":0}}"#,
            r#"{"cmd":3,"conversation_id":"c","payload":{"limit":501}}"#,
            r#"{"cmd":3,"conversation_id":"c","payload":{"direction":"up"}}"#,
            r#"{"cmd":3,"conversation_id":"c","payload":{"changes":0}}"#,
        ] {
            assert_eq!(pull(bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn whole_numbers_are_accepted_however_they_are_written() {
        let request = |text: &str| parse(text).map(|(_, request)| request).map_err(|(_, error)| error.code());
        assert_eq!(request(r#"{"cmd":0.0,"cursor_seq":57.0}"#), Ok(Request::Heartbeat(Some(57))));
        let sync = r#"{"cmd":60e-1,"cursor_seq":1e2,"payload":{"limit":7.00}}"#;
        assert_eq!(request(sync), Ok(Request::Sync(SyncRequest { cursor: 100, limit: 7 })));
        let pull =
            r#"{"cmd":3.0,"conversation_id":"c","cursor_seq":9007199254740991.0,"payload":{"limit":5e2}}"#;
        let expected = PullRequest { cursor: Seq::MAX, limit: 500, backward: false, changes: true };
        assert_eq!(request(pull), Ok(Request::Pull(expected)));
        assert_eq!(request(r#"{"cmd":4,"conversation_id":"c","cursor_seq":9.0}"#), Ok(Request::Ack(Seq(9))));
        let chat = |payload: &str| {
            request(&format!(r#"{{"cmd":2.0,"conversation_id":"c","payload":{payload}}}"#)).map(|chat| {
                match chat {
                    Request::Chat(chat) => (chat.kind, chat.send_time_ms),
                    other => panic!("{other:?}"),
                }
            })
        };
        let recall = chat(r#"{"msg_type":3.0,"recall_seq":1.2e1,"send_time":1700000000000.0}"#);
        assert_eq!(recall, Ok((MessageKind::Recall(Seq(12)), Some(1_700_000_000_000))));
        for bad in [
            r#"{"cmd":0,"cursor_seq":57.5}"#,
            r#"{"cmd":0,"cursor_seq":-1.0}"#,
            r#"{"cmd":0,"cursor_seq":9007199254740991.5}"#,
            r#"{"cmd":0,"cursor_seq":9007199254740992.0}"#,
            r#"{"cmd":0,"cursor_seq":1e16}"#,
            r#"{"cmd":0,"cursor_seq":"57"}"#,
            r#"{"cmd":6,"payload":{"limit":501.0}}"#,
            r#"{"cmd":0.5}"#,
        ] {
            assert_eq!(request(bad), Err(400), "{bad}");
        }
        for bad in [
            r#"{"content":"x","msg_type":1.5}"#,
            r#"{"content":"x","send_time":1.5}"#,
            r#"{"content":"x","send_time":1e300}"#,
            r#"{"msg_type":3,"recall_seq":0.0}"#,
        ] {
            assert_eq!(chat(bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn an_error_names_the_wrong_field_and_repeats_the_ids() {
        assert_eq!(refused("hello").0, -1);
        assert_eq!(refused("[1]").0, -1);
        assert_eq!(refused("{}").0, -1);
        assert_eq!(refused(r#"{"cmd":"2"}"#), (-1, 400, "cmd must be an integer".into()));
        assert_eq!(refused(r#"{"cmd":99}"#).0, 99);
        let (echo, refusal) =
            parse(r#"{"cmd":2,"msg_id":"m","conversation_id":"c","payload":{}}"#).unwrap_err();
        assert_eq!(
            (echo.cmd, echo.msg_id.as_deref(), echo.conversation_id.as_deref()),
            (2, Some("m"), Some("c"))
        );
        assert!(refusal.message().contains("content"));
        assert!(refused(r#"{"cmd":2,"payload":{"content":"x"}}"#).2.contains("conversation_id is missing"));
        assert!(
            refused(r#"{"cmd":2,"conversation_id":5,"payload":{"content":"x"}}"#)
                .2
                .contains("conversation_id")
        );
        assert!(
            refused(r#"{"cmd":2,"msg_id":"a b","conversation_id":"c","payload":{"content":"x"}}"#)
                .2
                .contains("msg_id")
        );
        assert!(refused(r#"{"cmd":4,"conversation_id":"c"}"#).2.contains("cursor_seq"));
        assert!(refused(r#"{"cmd":8}"#).2.contains("conversation_id"));
        assert!(refused(r#"{"cmd":6,"payload":{"limit":0}}"#).2.contains("limit"));
        for recall in
            [r#"{"msg_type":3}"#, r#"{"msg_type":3,"recall_seq":0}"#, r#"{"msg_type":3,"recall_seq":"7"}"#]
        {
            let text = format!(r#"{{"cmd":2,"conversation_id":"c","payload":{recall}}}"#);
            assert!(refused(&text).2.contains("recall_seq"), "{text}");
        }
        let long =
            format!(r#"{{"cmd":2,"conversation_id":"c","payload":{{"content":"{}"}}}}"#, "é".repeat(2049));
        assert_eq!(refused(&long).1, 413);
        let huge = format!(r#"{{"cmd":2,"msg_id":"{}","conversation_id":"c"}}"#, "x".repeat(9_000));
        assert_eq!(parse(&huge).unwrap_err().0.msg_id, None);
    }

    #[test]
    fn deeply_nested_json_is_refused_or_ignored() {
        let deep = "[".repeat(30_000) + &"]".repeat(30_000);
        assert!(parse(&deep).is_err());
        assert!(parse(&format!(r#"{{"cmd":0,"x":{deep}}}"#)).is_ok());
        assert!(parse(&format!(r#"{{"cmd":3,"conversation_id":"c","payload":{deep}}}"#)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,200}") {
            if let Err((echo, refusal)) = parse(&text) {
                let frame = echo.refuse(&refusal);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&frame).is_ok());
            }
        }

        #[test]
        fn any_object_is_parsed_or_refused(
            cmd in "-?[0-9]{1,3}|null|\"2\"|2\\.5",
            id in "\"[^\"\\\\]{0,70}\"|null|7|\\[\\]",
            payload in "\\{\\}|null|\\{\"content\":\"x\"\\}|\\{\"content\":7\\}|\\[\\]|\\{\"limit\":-1\\}",
        ) {
            let text = format!(r#"{{"cmd":{cmd},"msg_id":{id},"conversation_id":{id},"cursor_seq":{cmd},"payload":{payload}}}"#);
            if let Err((echo, refusal)) = parse(&text) {
                let frame = echo.refuse(&refusal);
                let frame: serde_json::Value = serde_json::from_str(&frame).unwrap();
                prop_assert!(frame["code"].as_u64().unwrap() >= 400);
            }
        }
    }
}
