//! The login state of a client, as types: `Anonymous → Authenticating → LoggedIn`.
//!
//! Each decides what to do about a frame. Only [`LoggedIn`] has a user, and only it handles requests, so that no request
//! can be handled before the login. No sockets, clocks or stores.

use std::sync::Arc;

use shared::conversation::{Conversation, ConversationError};
use shared::ids::{ConnectionId, DeviceId, UserId};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::backend::Query;
use super::token_expiry::TokenExpiry;
use crate::auth::token::Login;
use crate::identity::Identity;
use crate::wire::api_error::ApiError;
use crate::wire::chat::ChatRequest;
use crate::wire::close::Close;
use crate::wire::context::RequestContext;
use crate::wire::reply;
use crate::wire::request::{self, Cmd, Request};

/// A verified login, and the device that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerifiedLogin {
    pub(crate) login: Login,
    /// `None`: the server makes up an id, which replaces no other connection.
    pub(crate) device: Option<DeviceId>,
}

/// A client that has not logged in. It may only log in.
#[derive(Debug)]
pub(super) struct Anonymous {
    malformed: MalformedFrames,
}

/// What to do about a frame of an anonymous client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AnonymousAction {
    /// Send this reply.
    Reply(Utf8Bytes),
    /// Verify the token, and log in.
    Login {
        token: String,
        device: Option<DeviceId>,
    },
    Close(Close),
}

impl Anonymous {
    pub(super) fn new(malformed_max: u32) -> Self {
        Self { malformed: MalformedFrames::new(malformed_max) }
    }

    pub(super) fn on_text(&mut self, text: &str) -> AnonymousAction {
        match request::parse(text) {
            Ok((_, Request::Login { token, device })) => AnonymousAction::Login { token, device },
            Ok(_) => AnonymousAction::Close(Close::NotLoggedIn),
            Err((echo, refusal)) => self.malformed(echo.refuse(&refusal)),
        }
    }

    pub(super) fn on_binary(&mut self) -> AnonymousAction {
        self.malformed(binary_frame_refused())
    }

    fn malformed(&mut self, answer: Utf8Bytes) -> AnonymousAction {
        self.malformed.answer(answer).map_or_else(AnonymousAction::Close, AnonymousAction::Reply)
    }
}

/// A client whose login is verified and whose memberships are being loaded. Its frames are left in the socket.
#[derive(Debug)]
pub(super) struct Authenticating {
    who: Arc<Identity>,
    device_is_named: bool,
    token: TokenExpiry,
}

impl Authenticating {
    /// The connection with this id belongs to the user of `verified`.
    pub(super) fn new(verified: VerifiedLogin, origin: ConnectionId) -> Self {
        let VerifiedLogin { login, device } = verified;
        let token = TokenExpiry::new(&login);
        let device_is_named = device.is_some();
        let device = device.unwrap_or_else(DeviceId::generate);
        Self { who: Arc::new(Identity { user: login.user, device, origin }), device_is_named, token }
    }

    /// The client named its device, which may have other connections. A name that the server made up is unique.
    pub(super) fn device_is_named(&self) -> bool {
        self.device_is_named
    }

    pub(super) fn who(&self) -> &Arc<Identity> {
        &self.who
    }

    /// The memberships are loaded. Returns the expiry of the token as well.
    pub(super) fn memberships_loaded(self, malformed_max: u32) -> (LoggedIn, TokenExpiry) {
        (LoggedIn::new(self.who, malformed_max), self.token)
    }
}

/// A client that is logged in and may send requests.
#[derive(Debug)]
pub struct LoggedIn {
    who: Arc<Identity>,
    malformed: MalformedFrames,
}

/// What to do about a frame of a user.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this reply.
    Reply(Utf8Bytes),
    /// Verify the token, and replace the earlier one with it.
    RenewToken {
        /// As sent.
        token: String,
    },
    /// Send a message (cmd 2).
    Chat(Conversation, ChatRequest),
    /// Answer the query in a task of its own.
    Query(Query),
    /// Close the connection.
    Close(Close),
}

impl LoggedIn {
    /// `who` is logged in. After `malformed_max` malformed frames in a row, the next one closes the connection.
    #[must_use]
    pub fn new(who: Arc<Identity>, malformed_max: u32) -> Self {
        Self { who, malformed: MalformedFrames::new(malformed_max) }
    }

    /// The user, its device and this connection.
    #[must_use]
    pub fn who(&self) -> &Arc<Identity> {
        &self.who
    }

    /// The client sent a text frame.
    pub fn on_text(&mut self, text: &str) -> Action {
        match request::parse(text) {
            Ok((echo, request)) => {
                self.malformed.reset();
                self.request(&echo, request).unwrap_or_else(|refusal| Action::Reply(echo.refuse(&refusal)))
            }
            Err((echo, refusal)) => self.malformed(echo.refuse(&refusal)),
        }
    }

    /// The client sent a binary frame.
    pub fn on_binary(&mut self) -> Action {
        self.malformed(binary_frame_refused())
    }

    fn malformed(&mut self, answer: Utf8Bytes) -> Action {
        self.malformed.answer(answer).map_or_else(Action::Close, Action::Reply)
    }

    fn request(&self, echo: &request::Echo<'_>, request: Request) -> Result<Action, ApiError> {
        let who = &self.who;
        let conversation = || {
            if let Some(to) = &echo.to {
                let peer = UserId::parse(to).map_err(ApiError::malformed)?;
                return Ok(Conversation::between(&who.user, &peer));
            }
            let name = echo.conversation_id.as_deref().unwrap_or_default();
            Conversation::parse(name, &who.user).map_err(|error| match error {
                ConversationError::NotYours => ApiError::Forbidden(error.to_string()),
                _ => ApiError::Malformed(error.to_string()),
            })
        };
        let context =
            || RequestContext { by: Arc::clone(who), msg_id: echo.msg_id.as_deref().map(Box::from) };
        Ok(match request {
            Request::Heartbeat(None) => Action::Reply(reply::heartbeat()),
            Request::Heartbeat(Some(cursor)) => Action::Query(Query::Heartbeat(Arc::clone(who), cursor)),
            // The device stays the same.
            Request::Login { token, .. } => Action::RenewToken { token },
            Request::Chat(chat) => Action::Chat(conversation()?, chat),
            Request::Pull(pull) => Action::Query(Query::Pull(context(), conversation()?, pull)),
            Request::Ack(cursor) => Action::Query(Query::Ack(context(), conversation()?, cursor)),
            Request::Sync(sync) => Action::Query(Query::Sync(context(), sync)),
            Request::Typing => Action::Query(Query::Typing(context(), conversation()?)),
            Request::Watch(users) => Action::Query(Query::Watch(context(), users)),
        })
    }
}

/// Counts malformed frames in a row.
#[derive(Debug)]
struct MalformedFrames {
    in_a_row: u32,
    max: u32,
}

impl MalformedFrames {
    fn new(max: u32) -> Self {
        Self { in_a_row: 0, max }
    }

    fn reset(&mut self) {
        self.in_a_row = 0;
    }

    /// Counts one more, which is answered by `answer` while there are not too many.
    fn answer(&mut self, answer: Utf8Bytes) -> Result<Utf8Bytes, Close> {
        self.in_a_row += 1;
        if self.in_a_row > self.max { Err(Close::TooManyMalformed) } else { Ok(answer) }
    }
}

fn binary_frame_refused() -> Utf8Bytes {
    ApiError::malformed("send text frames: this one was binary").frame(Cmd::UNKNOWN, None, None)
}

#[cfg(test)]
mod tests {
    use shared::ids::{Seq, UserId};

    use super::*;

    fn alice() -> LoggedIn {
        let login = Login { user: UserId::parse("alice").unwrap(), issued_at_ms: 0, expires_at_ms: None };
        let verified = VerifiedLogin { login, device: Some(DeviceId::parse("phone").unwrap()) };
        let authenticating = Authenticating::new(verified, ConnectionId { gateway: 1, connection: 1 });
        assert_eq!(authenticating.who().device.as_str(), "phone");
        authenticating.memberships_loaded(3).0
    }

    fn json(frame: &str) -> serde_json::Value {
        serde_json::from_str(frame).unwrap()
    }

    fn replied(action: &Action) -> serde_json::Value {
        let Action::Reply(frame) = action else { panic!("{action:?}") };
        json(frame)
    }

    #[test]
    fn an_anonymous_client_logs_in_or_is_closed() {
        let mut anonymous = Anonymous::new(3);
        let login = anonymous.on_text(r#"{"cmd":1,"payload":{"token":"t","device_id":"phone"}}"#);
        let device = Some(DeviceId::parse("phone").unwrap());
        assert_eq!(login, AnonymousAction::Login { token: "t".into(), device });
        let chat = r#"{"cmd":2,"conversation_id":"private_a_b","payload":{"content":"x"}}"#;
        assert_eq!(anonymous.on_text(chat), AnonymousAction::Close(Close::NotLoggedIn));
        assert_eq!(anonymous.on_text(r#"{"cmd":0}"#), AnonymousAction::Close(Close::NotLoggedIn));
        let AnonymousAction::Reply(frame) = anonymous.on_text("garbage") else { panic!("no reply") };
        assert_eq!(json(&frame)["code"], 400);
        for _ in 0..2 {
            assert!(matches!(anonymous.on_binary(), AnonymousAction::Reply(_)));
        }
        assert_eq!(anonymous.on_binary(), AnonymousAction::Close(Close::TooManyMalformed));
    }

    #[test]
    fn requests_become_actions_on_the_canonical_conversation() {
        let mut alice = alice();
        assert_eq!(replied(&alice.on_text(r#"{"cmd":0}"#))["code"], 0);
        let action = alice.on_text(r#"{"cmd":3,"conversation_id":"private_bob_alice","cursor_seq":4}"#);
        let Action::Query(Query::Pull(context, conversation, pull)) = action else { panic!("{action:?}") };
        assert_eq!(
            (context.by.user.as_str(), conversation.key(), pull.cursor),
            ("alice", "private_alice bob", Seq(4))
        );
        let action = alice.on_text(r#"{"cmd":4,"conversation_id":"group_1","cursor_seq":9}"#);
        assert!(matches!(action, Action::Query(Query::Ack(_, _, Seq(9)))), "{action:?}");
        let renewed = alice.on_text(r#"{"cmd":1,"payload":{"token":"t"}}"#);
        assert_eq!(renewed, Action::RenewToken { token: "t".into() });
        let action = alice.on_text(r#"{"cmd":6,"msg_id":"s","cursor_seq":7}"#);
        let Action::Query(Query::Sync(context, sync)) = action else { panic!("{action:?}") };
        assert_eq!((context.msg_id.as_deref(), sync.cursor), (Some("s"), 7));
        let action = alice.on_text(r#"{"cmd":0,"cursor_seq":57}"#);
        assert!(matches!(action, Action::Query(Query::Heartbeat(_, 57))), "{action:?}");
        let action = alice.on_text(r#"{"cmd":8,"conversation_id":"private_bob_alice"}"#);
        assert!(matches!(action, Action::Query(Query::Typing(..))), "{action:?}");
    }

    #[test]
    fn conversations_of_others_are_forbidden_and_unknown_names_malformed() {
        let mut alice = alice();
        let mut code = |id: &str| {
            let text =
                format!(r#"{{"cmd":2,"msg_id":"m","conversation_id":"{id}","payload":{{"content":"x"}}}}"#);
            let reply = replied(&alice.on_text(&text));
            assert_eq!((reply["msg_id"].as_str(), reply["conversation_id"].as_str()), (Some("m"), Some(id)));
            reply["code"].as_u64().unwrap()
        };
        assert_eq!(code("private_bob_carol"), 403);
        assert_eq!(code("room_1"), 400);
        assert_eq!(code("private_alice"), 400);
    }

    #[test]
    fn too_many_malformed_frames_in_a_row_close_the_connection() {
        let mut alice = alice();
        for _ in 0..2 {
            assert_eq!(replied(&alice.on_text("{"))["cmd"], -1);
            assert_eq!(replied(&alice.on_binary())["code"], 400);
            assert_eq!(replied(&alice.on_text(r#"{"cmd":77}"#))["cmd"], 77);
            assert_eq!(
                replied(&alice.on_text(r#"{"cmd":0}"#))["code"],
                0,
                "a well-formed frame restarts the count"
            );
        }
        for _ in 0..3 {
            alice.on_binary();
        }
        assert_eq!(alice.on_text("{"), Action::Close(Close::TooManyMalformed));
    }
}
