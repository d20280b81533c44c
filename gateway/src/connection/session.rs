//! What a client may do now: a state machine without sockets, clocks or stores.

use std::sync::Arc;

use shared::conversation::{Conversation, ConversationError};
use shared::ids::{DeviceId, Seq};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::identity::Identity;
use crate::wire::close::Close;
use crate::wire::context::RequestContext;
use crate::wire::refusal::Refusal;
use crate::wire::reply;
use crate::wire::request::{self, ChatRequest, Cmd, PullRequest, Request, SyncRequest};

/// What the connection's task is to do about a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer at once.
    Reply(Utf8Bytes),
    /// Check the token, and log in.
    Login {
        /// As sent.
        token: String,
        /// If it was named.
        device: Option<DeviceId>,
    },
    /// Check the token, and go on with it instead of the earlier one.
    Renew {
        /// As sent.
        token: String,
    },
    /// cmd 2
    Send(Arc<Identity>, Conversation, ChatRequest),
    /// cmd 3
    Pull(RequestContext, Conversation, PullRequest),
    /// cmd 4
    Ack(RequestContext, Conversation, Seq),
    /// cmd 6
    Sync(RequestContext, SyncRequest),
    /// cmd 0 with the client's sync position
    Heartbeat(Arc<Identity>, u64),
    /// cmd 8
    Typing(RequestContext, Conversation),
    /// End it.
    Close(Close),
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    who: Option<Arc<Identity>>,
    malformed: u32,
    malformed_max: u32,
}

impl Session {
    /// Nobody is logged in yet.
    #[must_use]
    pub fn anonymous(malformed_max: u32) -> Self {
        Self { who: None, malformed: 0, malformed_max }
    }

    /// From here on requests are this one's.
    pub fn logged_in(&mut self, who: Arc<Identity>) {
        self.who = Some(who);
    }

    /// Who is logged in.
    #[must_use]
    pub fn who(&self) -> Option<&Arc<Identity>> {
        self.who.as_ref()
    }

    /// A text frame came.
    pub fn text(&mut self, text: &str) -> Action {
        let parsed = request::parse(text);
        match parsed {
            Ok((echo, request)) => {
                self.malformed = 0;
                self.request(&echo, request).unwrap_or_else(|refusal| Action::Reply(echo.refuse(&refusal)))
            }
            Err((echo, refusal)) => self.malformed(echo.refuse(&refusal)),
        }
    }

    /// A binary frame came.
    pub fn binary(&mut self) -> Action {
        let refusal = Refusal::malformed("send text frames: this one was binary");
        self.malformed(refusal.frame(Cmd::UNKNOWN, None, None))
    }

    fn malformed(&mut self, answer: Utf8Bytes) -> Action {
        self.malformed += 1;
        if self.malformed > self.malformed_max {
            return Action::Close(Close::TooManyMalformed);
        }
        Action::Reply(answer)
    }

    fn request(&self, echo: &request::Echo<'_>, request: Request) -> Result<Action, Refusal> {
        let Some(who) = &self.who else {
            return match request {
                Request::Login { token, device } => Ok(Action::Login { token, device }),
                _ => Ok(Action::Close(Close::NotLoggedIn)),
            };
        };
        let conversation = || {
            let name = echo.conversation_id.as_deref().unwrap_or_default();
            Conversation::parse(name, &who.user).map_err(|error| match error {
                ConversationError::NotYours => Refusal::Forbidden(error.to_string()),
                _ => Refusal::Malformed(error.to_string()),
            })
        };
        let asked = || RequestContext { by: Arc::clone(who), msg_id: echo.msg_id.as_deref().map(Box::from) };
        Ok(match request {
            Request::Heartbeat(None) => Action::Reply(reply::heartbeat()),
            Request::Heartbeat(Some(cursor)) => Action::Heartbeat(Arc::clone(who), cursor),
            // The device stays what it is.
            Request::Login { token, .. } => Action::Renew { token },
            Request::Chat(chat) => Action::Send(Arc::clone(who), conversation()?, chat),
            Request::Pull(pull) => Action::Pull(asked(), conversation()?, pull),
            Request::Ack(cursor) => Action::Ack(asked(), conversation()?, cursor),
            Request::Sync(sync) => Action::Sync(asked(), sync),
            Request::Typing => Action::Typing(asked(), conversation()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::{Origin, UserId};

    use super::*;

    fn alice() -> Session {
        let mut session = Session::anonymous(3);
        session.logged_in(Arc::new(Identity {
            user: UserId::parse("alice").unwrap(),
            device: DeviceId::parse("phone").unwrap(),
            origin: Origin { gateway: 1, connection: 1 },
        }));
        session
    }

    fn replied(action: &Action) -> serde_json::Value {
        let Action::Reply(frame) = action else { panic!("{action:?}") };
        serde_json::from_str(frame).unwrap()
    }

    #[test]
    fn the_first_frame_of_an_anonymous_connection_is_a_login_or_the_end() {
        let mut session = Session::anonymous(3);
        let login = session.text(r#"{"cmd":1,"payload":{"token":"t","device_id":"phone"}}"#);
        assert_eq!(
            login,
            Action::Login { token: "t".into(), device: Some(DeviceId::parse("phone").unwrap()) }
        );
        let chat = r#"{"cmd":2,"conversation_id":"private_a_b","payload":{"content":"x"}}"#;
        assert_eq!(session.text(chat), Action::Close(Close::NotLoggedIn));
        assert_eq!(session.text(r#"{"cmd":0}"#), Action::Close(Close::NotLoggedIn));
        assert_eq!(replied(&session.text("garbage"))["code"], 400);
    }

    #[test]
    fn requests_become_actions_on_the_canonical_conversation() {
        let mut session = alice();
        assert_eq!(replied(&session.text(r#"{"cmd":0}"#))["code"], 0);
        let action = session.text(r#"{"cmd":3,"conversation_id":"private_bob_alice","cursor_seq":4}"#);
        let Action::Pull(asked, conversation, pull) = action else { panic!("{action:?}") };
        assert_eq!(
            (asked.by.user.as_str(), conversation.key(), pull.cursor),
            ("alice", "private_alice bob", Seq(4))
        );
        let action = session.text(r#"{"cmd":4,"conversation_id":"group_1","cursor_seq":9}"#);
        assert!(matches!(action, Action::Ack(_, _, Seq(9))), "{action:?}");
        let renewed = session.text(r#"{"cmd":1,"payload":{"token":"t"}}"#);
        assert_eq!(renewed, Action::Renew { token: "t".into() });
        let action = session.text(r#"{"cmd":6,"msg_id":"s","cursor_seq":7}"#);
        let Action::Sync(asked, sync) = action else { panic!("{action:?}") };
        assert_eq!((asked.msg_id.as_deref(), sync.cursor), (Some("s"), 7));
        let action = session.text(r#"{"cmd":0,"cursor_seq":57}"#);
        assert!(matches!(action, Action::Heartbeat(_, 57)), "{action:?}");
        let action = session.text(r#"{"cmd":8,"conversation_id":"private_bob_alice"}"#);
        assert!(matches!(action, Action::Typing(..)), "{action:?}");
    }

    #[test]
    fn conversations_of_others_are_forbidden_and_others_malformed() {
        let mut session = alice();
        let code = |session: &mut Session, id: &str| {
            let text =
                format!(r#"{{"cmd":2,"msg_id":"m","conversation_id":"{id}","payload":{{"content":"x"}}}}"#);
            let reply = replied(&session.text(&text));
            assert_eq!((reply["msg_id"].as_str(), reply["conversation_id"].as_str()), (Some("m"), Some(id)));
            reply["code"].as_u64().unwrap()
        };
        assert_eq!(code(&mut session, "private_bob_carol"), 403);
        assert_eq!(code(&mut session, "room_1"), 400);
        assert_eq!(code(&mut session, "private_alice"), 400);
    }

    #[test]
    fn malformed_frames_are_borne_for_a_while() {
        let mut session = alice();
        for _ in 0..2 {
            assert_eq!(replied(&session.text("{"))["cmd"], -1);
            assert_eq!(replied(&session.binary())["code"], 400);
            assert_eq!(replied(&session.text(r#"{"cmd":77}"#))["cmd"], 77);
            assert_eq!(
                replied(&session.text(r#"{"cmd":0}"#))["code"],
                0,
                "a good one starts the count again"
            );
        }
        for _ in 0..3 {
            session.binary();
        }
        assert_eq!(session.text("{"), Action::Close(Close::TooManyMalformed));
    }
}
