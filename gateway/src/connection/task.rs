//! One task per connection: from the upgrade to the close.
//!
//! The life of a connection is [`Connection::serve`]: log in, register, load the memberships, then handle one frame after
//! the other. Everything waits in [`Connection::step`], the only `select!`. While something is looked up (memberships at
//! the login, an unknown membership at a send), no further frame is read, which keeps the order of the messages of one
//! connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::ids::ConnectionId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::backend::Backend;
use super::deadlines::{Deadlines, Due};
use super::login::{Action, Anonymous, AnonymousAction, Authenticating, LoggedIn, VerifiedLogin};
use super::settings::ConnectionSettings;
use super::socket::Counted;
use super::token_expiry::TokenExpiry;
use super::transport::{Ended, SocketEvent, Transport};
use crate::identity::Identity;
use crate::outbox::{Outbox, ReplyTo};
use crate::wire::api_error::ApiError;
use crate::wire::close::Close;
use crate::wire::reply::{self, Event};
use crate::wire::request::Cmd;
use crate::wire::retry_delay::RetryDelay;

/// How long the client may take for its part of a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What [`Connection::step`] waited for.
enum Step<T> {
    Frame(Message),
    LookedUp(T),
}

/// The connection of one client.
pub(crate) struct Connection<S, B: Backend> {
    backend: Arc<B>,
    settings: Arc<ConnectionSettings>,
    origin: ConnectionId,
    transport: Transport<S>,
    outbox: Arc<Outbox>,
    deadlines: Deadlines,
    /// Fires at the next deadline, or earlier.
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, B: Backend> Connection<S, B> {
    /// A connection whose upgrade is done.
    pub(crate) fn new(backend: Arc<B>, socket: WebSocketStream<Counted<S>>) -> Self {
        let settings = backend.settings();
        let deadlines = Deadlines::new(&settings.timeouts, Instant::now());
        Self {
            origin: backend.next_connection_id(),
            transport: Transport::new(socket),
            outbox: Outbox::new(settings.outbox),
            timer: Box::pin(sleep_until(deadlines.next_check())),
            deadlines,
            settings,
            backend,
        }
    }

    /// Serves the client until the end of the connection. `login`: the verified login of the upgrade request; without it
    /// the client has to log in by its first frame.
    pub(crate) async fn run(mut self, login: Option<VerifiedLogin>) {
        let Err(ended) = self.serve(login).await;
        tracing::debug!(connection = self.origin.connection, ?ended, "connection ends");
        ended.count();
        let _ = match ended {
            Ended::Close(why) => timeout(CLOSE_TIMEOUT, self.transport.close(why, &self.outbox)).await,
            Ended::Gone => timeout(CLOSE_TIMEOUT, self.transport.answer_close()).await,
        };
        self.outbox.end();
    }

    /// The life of the connection, up to its close. The registration ends with it, so that nothing is pushed during the
    /// close.
    async fn serve(&mut self, login: Option<VerifiedLogin>) -> Result<Infallible, Ended> {
        let (login, answer) = match login {
            Some(login) => (login, false),
            None => (self.wait_for_login().await?, true),
        };
        let issued_at_ms = login.login.issued_at_ms;
        let authenticating = Authenticating::new(login, self.origin);
        let _registration = self.register(authenticating.who(), issued_at_ms)?;
        let session = self.authenticate(authenticating, answer).await?;
        let Err(ended) = self.serve_requests(session).await;
        Err(ended)
    }

    /// Reads frames until one is a login with a valid token.
    async fn wait_for_login(&mut self) -> Result<VerifiedLogin, Ended> {
        let mut anonymous = Anonymous::new(self.settings.malformed_frames_max);
        loop {
            let action = match self.next_frame().await? {
                Message::Text(text) => anonymous.on_text(&text),
                Message::Binary(_) => anonymous.on_binary(),
                _ => continue,
            };
            match action {
                AnonymousAction::Reply(frame) => self.outbox.reserve().send(frame),
                AnonymousAction::Close(close) => return Err(Ended::Close(close)),
                AnonymousAction::Login { token, device } => match self.backend.check_token(&token) {
                    Ok(login) => return Ok(VerifiedLogin { login, device }),
                    Err(refusal) => {
                        self.outbox.reserve().send(refusal.frame(Cmd::LOGIN, None, None));
                        return Err(Ended::Close(Close::LoginRefused));
                    }
                },
            }
        }
    }

    /// Registers the connection before its memberships are loaded, so that it misses no event in between.
    fn register(&mut self, who: &Arc<Identity>, issued_at_ms: i64) -> Result<Registration<B>, Ended> {
        let registration = Registration::new(&self.backend, who, &self.outbox);
        self.deadlines.authenticated();
        self.outbox.token_issued(issued_at_ms);
        // A revocation between the check of the token and the registration did not find this connection.
        if self.backend.is_revoked(&who.user, issued_at_ms) {
            return Err(Ended::Close(Close::TokenRevoked));
        }
        Ok(registration)
    }

    /// Loads the memberships, and records the presence of the user. `answer`: the client sent a login and waits for its reply.
    async fn authenticate(
        &mut self,
        authenticating: Authenticating,
        answer: bool,
    ) -> Result<LoggedIn, Ended> {
        let memberships = self.backend.load_memberships(&authenticating.who().user);
        let claim = authenticating
            .device_is_named()
            .then(|| self.backend.claim_device(authenticating.who(), &self.outbox));
        let claimed = async {
            if let Some(claim) = claim {
                claim.await
            }
        };
        let presence = self.backend.record_presence(&authenticating.who().user, &self.outbox);
        let loading = async { futures_util::join!(memberships, claimed, presence).0 }.boxed();
        if let Err(refusal) = self.wait_for(loading).await? {
            if answer {
                self.outbox.reserve().send(refusal.frame(Cmd::LOGIN, None, None));
            }
            let retry_after_ms = RetryDelay::Reconnect.random_ms();
            return Err(Ended::Close(Close::GoingAway { retry_after_ms }));
        }
        let malformed_max = self.settings.malformed_frames_max;
        let (session, token) = authenticating.memberships_loaded(malformed_max);
        let (connection, user) = (self.origin.connection, session.who().user.as_str());
        tracing::debug!(connection, user, "logged in");
        if answer {
            self.outbox.reserve().send(self.login_reply(session.who()));
        }
        self.set_token(token)?;
        Ok(session)
    }

    /// Handles one frame after the other.
    async fn serve_requests(&mut self, mut session: LoggedIn) -> Result<Infallible, Ended> {
        loop {
            let action = match self.next_frame().await? {
                Message::Text(text) => session.on_text(&text),
                Message::Binary(_) => session.on_binary(),
                _ => continue,
            };
            let reply_to = self.outbox.reserve();
            match action {
                Action::Reply(frame) => reply_to.send(frame),
                Action::Query(query) => self.backend.start(query, reply_to),
                Action::Chat(conversation, chat) => {
                    if let Some(lookup) = self.backend.submit(session.who(), conversation, chat, reply_to) {
                        self.wait_for(lookup).await?;
                    }
                }
                Action::RenewToken { token } => self.renew_token(session.who(), &token, reply_to)?,
                Action::Close(close) => return Err(Ended::Close(close)),
            }
        }
    }

    /// A new token of the same user replaces the earlier one.
    fn renew_token(&mut self, who: &Identity, token: &str, reply_to: ReplyTo) -> Result<(), Ended> {
        let renewed = self.backend.check_token(token).and_then(|login| {
            if login.user == who.user {
                return Ok(login);
            }
            let message = "this connection is another user's: open another one with this token";
            Err(ApiError::Forbidden(message.to_owned()))
        });
        let login = match renewed {
            Ok(login) => login,
            Err(refusal) => {
                reply_to.send(refusal.frame(Cmd::LOGIN, None, None));
                return Ok(());
            }
        };
        self.outbox.token_issued(login.issued_at_ms);
        reply_to.send(self.login_reply(who));
        if self.backend.is_revoked(&who.user, login.issued_at_ms) {
            return Err(Ended::Close(Close::TokenRevoked));
        }
        self.set_token(TokenExpiry::new(&login))
    }

    fn login_reply(&self, who: &Identity) -> Utf8Bytes {
        let (settings, now) = (&self.settings, self.backend.unix_millis());
        reply::login(&who.user, &who.device, now, settings.timeouts.heartbeat_ms, &settings.features.names())
    }

    /// The connection uses this token from now on. A token that expires soon causes a warning at once.
    fn set_token(&mut self, token: TokenExpiry) -> Result<(), Ended> {
        self.deadlines.set_token(token, Instant::now());
        // Frames that arrived during the login are not read yet.
        self.check_deadlines(false)
    }

    /// The next frame from the client.
    async fn next_frame(&mut self) -> Result<Message, Ended> {
        match self.step::<Infallible>(None).await? {
            Step::Frame(frame) => Ok(frame),
            Step::LookedUp(never) => match never {},
        }
    }

    /// The result of `lookup`. No frame is read before.
    async fn wait_for<T>(&mut self, mut lookup: BoxFuture<'static, T>) -> Result<T, Ended> {
        loop {
            match self.step(Some(&mut lookup)).await? {
                Step::LookedUp(found) => return Ok(found),
                Step::Frame(_) => debug_assert!(false, "frames are left in the socket during a lookup"),
            }
        }
    }

    /// Waits for `lookup`, or without one for the next frame. Writes what is in the outbox and keeps the deadlines
    /// meanwhile.
    async fn step<T>(&mut self, mut lookup: Option<&mut BoxFuture<'static, T>>) -> Result<Step<T>, Ended> {
        let reading = lookup.is_none();
        loop {
            let next_check = self.deadlines.next_check();
            if next_check < self.timer.deadline() {
                self.timer.as_mut().reset(next_check);
            }
            tokio::select! {
                biased;
                // Socket: writes first, since replies make room for further requests. Before the timer, since a frame
                // that has arrived extends a deadline.
                event = self.transport.next(&self.outbox, reading) => match event? {
                    SocketEvent::Frame(frame) => {
                        let now = Instant::now();
                        self.deadlines.frame_received(now);
                        self.outbox.heard(now);
                        return Ok(Step::Frame(frame));
                    }
                    SocketEvent::WriteBlocked { written } => {
                        self.deadlines.write_blocked(Instant::now(), written);
                    }
                    SocketEvent::WriteUnblocked => self.deadlines.write_unblocked(),
                },
                // Lookup: has to end before the next frame is read.
                found = async { match &mut lookup {
                    Some(lookup) => lookup.await,
                    None => std::future::pending().await,
                } } => return Ok(Step::LookedUp(found)),
                // Timer: a deadline, or the former time of one that was extended.
                () = &mut self.timer => {
                    self.check_deadlines(reading)?;
                    self.timer.as_mut().reset(self.deadlines.next_check());
                }
            }
        }
    }

    fn check_deadlines(&mut self, reading: bool) -> Result<(), Ended> {
        loop {
            let reading = reading && self.outbox.has_room();
            match self.deadlines.check(Instant::now(), self.backend.unix_millis(), reading) {
                Due::Nothing => return Ok(()),
                Due::Close(close) => return Err(Ended::Close(close)),
                Due::TokenWarning { expires_at_ms } => {
                    let warning = Event::TokenExpiring { expires_at: expires_at_ms };
                    self.outbox.notify(reply::event(None, warning));
                }
            }
        }
    }
}

/// The registration of a connection in the hub. Deregisters when dropped.
struct Registration<B: Backend> {
    backend: Arc<B>,
    who: Arc<Identity>,
}

impl<B: Backend> Registration<B> {
    fn new(backend: &Arc<B>, who: &Arc<Identity>, outbox: &Arc<Outbox>) -> Self {
        backend.register(who, outbox);
        Self { backend: Arc::clone(backend), who: Arc::clone(who) }
    }
}

impl<B: Backend> Drop for Registration<B> {
    fn drop(&mut self) {
        self.backend.deregister(&self.who);
    }
}

#[cfg(test)]
mod tests;
