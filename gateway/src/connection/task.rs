//! One task per connection: reads frames, writes what is in the outbox, keeps time.
//!
//! Reading and writing are polled side by side, so that a client that takes nothing from its socket is still heard, and
//! one that says nothing still gets its pushes. What has to be looked up before the next frame may be read (groups at
//! the login, an unknown membership at a send) is polled here too, instead of reading on, which keeps the order of one
//! connection's messages.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use shared::ids::{DeviceId, unix_millis};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, Sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::lease::Due;
use super::session::{Action, Session};
use super::socket::Counted;
use super::{Lease, Services};
use crate::identity::Identity;
use crate::membership::Loaded;
use crate::outbox::{Outbox, ReplyTo};
use crate::wire::close::Close;
use crate::wire::refusal::Refusal;
use crate::wire::reply::{self, Event};
use crate::wire::request::Cmd;

/// How long the other side may take for its part of a close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of garbage that are read after a frame error, so that the close frame arrives before the reset.
const DISCARD_BYTES_MAX: u64 = 1 << 20;

/// What must be known before the next frame is read.
enum Pending {
    /// The groups of the user; and whether a login is to be answered.
    Groups(BoxFuture<'static, Result<Loaded, Refusal>>, bool),
    /// Whether a message may be sent.
    Admission(BoxFuture<'static, ()>),
}

/// What a wait ended with.
enum Wake {
    Frame(Message),
    Groups(Result<Loaded, Refusal>, bool),
    Admitted,
    Timer,
    Close(Close),
    /// The client closed, or the socket broke.
    Gone,
}

/// One client.
pub struct Connection<S> {
    services: Services,
    socket: WebSocketStream<Counted<S>>,
    session: Session,
    outbox: Arc<Outbox>,
    pending: Option<Pending>,
    timer: Pin<Box<Sleep>>,
    /// What its token allows it, once it is logged in.
    lease: Option<Lease>,
    last_frame: Instant,
    /// Frames were handed to the socket since the last complete flush.
    unflushed: bool,
    /// Bytes written, and when they last became more, or there was nothing to write.
    progress: (u64, Instant),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection whose upgrade is done.
    pub fn new(services: Services, socket: WebSocketStream<Counted<S>>) -> Self {
        let limits = &services.config.limits;
        let outbox = Outbox::new(limits.requests_per_connection_max, limits.push_bytes_per_connection_max);
        let now = Instant::now();
        let login = Duration::from_millis(services.config.timeouts.login_ms);
        Self {
            session: Session::anonymous(limits.malformed_frames_max),
            outbox,
            pending: None,
            timer: Box::pin(tokio::time::sleep_until(now + login)),
            lease: None,
            last_frame: now,
            unflushed: false,
            progress: (0, now),
            services,
            socket,
        }
    }

    /// Serves the client until the end of the connection. `who`: what the upgrade request said.
    pub async fn run(mut self, who: Option<(Identity, Lease)>) {
        let refused = who.and_then(|(who, lease)| self.log_in(who, lease, false).err());
        let why = match refused {
            Some(close) => Some(close),
            None => self.serve().await,
        };
        if let Some(who) = self.session.who() {
            self.services.hub.deregister(who);
            self.services.online.changed(&who.user);
        }
        self.pending = None;
        if let Some(why) = why {
            tracing::debug!(?why, user = self.session.who().map(|who| who.user.as_str()), "closing");
            let _ = timeout(CLOSE_PATIENCE, self.close(why)).await;
        } else {
            // The answer to the client's own close frame.
            let _ = timeout(CLOSE_PATIENCE, self.socket.flush()).await;
        }
        self.outbox.end();
    }

    /// `None`: there is nobody to say anything to any more.
    async fn serve(&mut self) -> Option<Close> {
        loop {
            let close = match poll_fn(|cx| self.poll_wake(cx)).await {
                Wake::Frame(frame) => {
                    self.last_frame = Instant::now();
                    match frame {
                        Message::Text(text) => {
                            let action = self.session.text(&text);
                            self.act(action)
                        }
                        Message::Binary(_) => {
                            let action = self.session.binary();
                            self.act(action)
                        }
                        Message::Close(_) => return None,
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => None,
                    }
                }
                Wake::Groups(groups, answer) => self.groups_known(groups, answer),
                Wake::Admitted => None,
                Wake::Timer => self.overdue(),
                Wake::Close(close) => Some(close),
                Wake::Gone => return None,
            };
            if close.is_some() {
                return close;
            }
        }
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        self.outbox.watch(cx);
        if self.poll_write(cx).is_err() {
            return Poll::Ready(Wake::Gone);
        }
        let closing = self.outbox.close_reason();
        if let Some(close) = closing {
            // A gateway that goes away in order answers first what it has read.
            let finish_first = matches!(close, Close::GoingAway { .. }) && self.outbox.owes_replies();
            if !finish_first {
                return Poll::Ready(Wake::Close(close));
            }
        }
        let looked_up = match &mut self.pending {
            Some(Pending::Groups(groups, answer)) => {
                groups.poll_unpin(cx).map(|groups| Wake::Groups(groups, *answer))
            }
            Some(Pending::Admission(admission)) => admission.poll_unpin(cx).map(|()| Wake::Admitted),
            None => Poll::Pending,
        };
        if let Poll::Ready(wake) = looked_up {
            self.pending = None;
            return Poll::Ready(wake);
        }
        if closing.is_none()
            && self.pending.is_none()
            && self.outbox.has_room()
            && let Poll::Ready(frame) = self.poll_read(cx)
        {
            return Poll::Ready(frame);
        }
        self.poll_timer(cx).map(|()| Wake::Timer)
    }

    /// Hands frames to the socket as long as it takes them, then flushes once.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let mut blocked = false;
        loop {
            if Pin::new(&mut self.socket).poll_ready(cx)?.is_pending() {
                blocked = true;
                break;
            }
            let Some(frame) = self.outbox.pop() else { break };
            Pin::new(&mut self.socket).start_send(Message::Text(frame))?;
            self.unflushed = true;
        }
        if self.unflushed && !blocked {
            self.unflushed = Pin::new(&mut self.socket).poll_flush(cx)?.is_pending();
            blocked = self.unflushed;
        }
        let written = self.socket.get_ref().written();
        if !blocked || written != self.progress.0 {
            self.progress = (written, Instant::now());
        }
        self.unflushed |= blocked;
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        Poll::Ready(match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(Ok(frame)) => Wake::Frame(frame),
            Some(Err(Error::Capacity(_))) => Wake::Close(Close::FrameTooLarge),
            Some(Err(Error::Utf8(_))) => Wake::Close(Close::NotUtf8),
            Some(Err(Error::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )))
            | None => Wake::Gone,
            Some(Err(Error::Protocol(_))) => Wake::Close(Close::ProtocolError),
            Some(Err(_)) => Wake::Gone,
        })
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unflushed && self.stalled_at() < self.timer.deadline() {
            let at = self.stalled_at();
            self.timer.as_mut().reset(at);
        }
        self.timer.poll_unpin(cx)
    }

    fn stalled_at(&self) -> Instant {
        self.progress.1 + Duration::from_millis(self.services.config.timeouts.stalled_ms)
    }

    /// The timer fired: closes if something is overdue, or sets it again.
    fn overdue(&mut self) -> Option<Close> {
        let now = Instant::now();
        if self.unflushed && self.stalled_at() <= now {
            return Some(Close::Stalled);
        }
        let timeouts = &self.services.config.timeouts;
        let logged_in = self.session.who().is_some();
        let silent_at = match logged_in {
            true => self.last_frame + timeouts.silence(),
            // Garbage is no login: this one is not moved by frames.
            false => self.timer.deadline(),
        };
        // One whose frames are left in the socket is not silent.
        if silent_at <= now && self.outbox.has_room() && self.pending.is_none() {
            return Some(if logged_in { Close::Silent } else { Close::NotLoggedIn });
        }
        let next = if silent_at <= now { now + timeouts.silence() } else { silent_at };
        let look_again = match self.look_at_lease() {
            Ok(look_again) => look_again,
            Err(close) => return Some(close),
        };
        self.timer.as_mut().reset(look_again.map_or(next, |after| next.min(now + after)));
        None
    }

    /// Warns before the token expires, and ends the connection when it has. Says when to look again.
    fn look_at_lease(&mut self) -> Result<Option<Duration>, Close> {
        let warning_ms = self.services.config.timeouts.token_warning_ms;
        // The answer to the login comes first.
        let Some(lease) = self.lease.as_mut().filter(|_| !matches!(self.pending, Some(Pending::Groups(..))))
        else {
            return Ok(None);
        };
        loop {
            match lease.due(unix_millis(), warning_ms) {
                Due::Nothing { look_again_ms } => return Ok(look_again_ms.map(Duration::from_millis)),
                Due::Warning { expires_at_ms } => {
                    self.outbox
                        .notify(reply::event(None, Event::TokenExpiring { expires_at: expires_at_ms }));
                }
                Due::End => return Err(Close::TokenExpired),
            }
        }
    }

    /// Does what the session asks for.
    fn act(&mut self, action: Action) -> Option<Close> {
        let reply_to = self.outbox.reserve();
        let reads = || Arc::clone(&self.services.reads);
        match action {
            Action::Reply(frame) => reply_to.send(frame),
            Action::Send(who, conversation, chat) => {
                let admission = self.services.sends.submit(&who, conversation, chat, reply_to);
                self.pending = admission.map(Pending::Admission);
            }
            Action::Pull(asked, conversation, pull) => {
                self.services.shutdown.spawn(reads().pull(asked, conversation, pull, reply_to));
            }
            Action::Ack(asked, conversation, cursor) => {
                self.services.shutdown.spawn(reads().ack(asked, conversation, cursor, reply_to));
            }
            Action::Sync(asked, sync) => {
                self.services.shutdown.spawn(reads().sync(asked, sync, reply_to));
            }
            Action::Heartbeat(who, cursor) => {
                self.services.shutdown.spawn(reads().heartbeat(who, cursor, reply_to));
            }
            Action::Typing(asked, conversation) => {
                let typing = Arc::clone(&self.services.typing);
                self.services.shutdown.spawn(typing.notice(asked, conversation, reply_to));
            }
            Action::Login { token, device } => return self.token_login(&token, device),
            Action::Renew { token } => return self.renew(&token, reply_to),
            Action::Close(close) => return Some(close),
        }
        None
    }

    fn token_login(&mut self, token: &str, device: Option<DeviceId>) -> Option<Close> {
        match self.services.tokens.check(token) {
            Ok(login) => {
                let (who, lease) = self.services.identify(login, device);
                self.log_in(who, lease, true).err()
            }
            Err(refusal) => {
                self.outbox.reserve().send(refusal.frame(Cmd::LOGIN, None, None));
                Some(Close::NotLoggedIn)
            }
        }
    }

    /// A new token of the same user takes the place of the earlier one.
    fn renew(&mut self, token: &str, reply_to: ReplyTo) -> Option<Close> {
        let who = Arc::clone(self.session.who()?);
        let renewed = self.services.tokens.check(token).and_then(|login| {
            if login.user == who.user {
                return Ok(login);
            }
            let message = "this connection is another user's: open another one with this token";
            Err(Refusal::Forbidden(message.to_owned()))
        });
        match renewed {
            Ok(login) => {
                let lease = Lease::of(&login);
                self.lease = Some(lease);
                self.outbox.token_issued(lease.issued_at_ms);
                reply_to.send(self.login_reply(&who));
                if self.services.revocations.is_revoked(&who.user, lease.issued_at_ms) {
                    return Some(Close::TokenRevoked);
                }
                self.overdue()
            }
            Err(refusal) => {
                reply_to.send(refusal.frame(Cmd::LOGIN, None, None));
                None
            }
        }
    }

    fn login_reply(&self, who: &Identity) -> Utf8Bytes {
        let heartbeat_ms = self.services.config.timeouts.heartbeat_ms;
        reply::login(&who.user, &who.device, unix_millis(), heartbeat_ms)
    }

    /// Registers the connection, so that no event passes it by, and asks for its groups.
    fn log_in(&mut self, who: Identity, lease: Lease, answer: bool) -> Result<(), Close> {
        let max = self.services.config.limits.connections_per_user_max;
        self.services.hub.register(&who, &self.outbox, max).map_err(|_| Close::TooManyConnections)?;
        self.outbox.token_issued(lease.issued_at_ms);
        self.lease = Some(lease);
        // A revocation between the check and the registration found no connection to close.
        if self.services.revocations.is_revoked(&who.user, lease.issued_at_ms) {
            self.services.hub.deregister(&who);
            return Err(Close::TokenRevoked);
        }
        self.services.online.changed(&who.user);
        let deadline = Duration::from_millis(self.services.config.limits.request_deadline_ms);
        let (logins, user) = (Arc::clone(&self.services.logins), who.user.clone());
        let groups = async move {
            let late =
                Refusal::Overloaded { message: "the database is away".to_owned(), retry_after_ms: 1_000 };
            timeout(deadline, logins.load(&user)).await.unwrap_or(Err(late))
        };
        self.pending = Some(Pending::Groups(groups.boxed(), answer));
        self.session.logged_in(Arc::new(who));
        self.timer.as_mut().reset(Instant::now() + self.services.config.timeouts.silence());
        Ok(())
    }

    fn groups_known(&mut self, groups: Result<Loaded, Refusal>, answer: bool) -> Option<Close> {
        let who = Arc::clone(self.session.who()?);
        match groups {
            Ok(loaded) => {
                self.services.memberships.loaded(&who.user, loaded);
                if answer {
                    self.outbox.reserve().send(self.login_reply(&who));
                }
                self.overdue()
            }
            Err(refusal) => {
                if answer {
                    self.outbox.reserve().send(refusal.frame(Cmd::LOGIN, None, None));
                }
                Some(Close::GoingAway { retry_after_ms: rand::random_range(500..=3_000) })
            }
        }
    }

    /// Writes what is owed and the close frame, and waits for the other side's.
    async fn close(&mut self, why: Close) -> Result<(), Error> {
        while let Some(frame) = self.outbox.pop_reply() {
            self.socket.feed(Message::Text(frame)).await?;
        }
        self.socket.send(Message::Close(Some(why.frame()))).await?;
        if matches!(why, Close::FrameTooLarge | Close::NotUtf8 | Close::ProtocolError) {
            // What follows is no WebSocket any more. Unread bytes would make the kernel reset the connection, and the
            // close frame would never be seen.
            let mut rest = self.socket.get_mut().take(DISCARD_BYTES_MAX);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
            return Ok(());
        }
        while let Some(Ok(_)) = self.socket.next().await {}
        Ok(())
    }
}
