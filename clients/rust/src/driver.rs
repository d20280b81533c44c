//! The client's task: it owns the state, the connection and the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, OptionFuture};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::backoff::{Backoff, obey};
use crate::closing::AfterClose;
use crate::core::{Core, Login, Then};
use crate::dial::{Dialed, Dialer, Identity, Lost};
use crate::error::Error;
use crate::event::{ConnectionState, Event};
use crate::message::{Delivery, Draft, Refusal};
use crate::protocol::{Connection, Packet};
use crate::queue::Queue;
use crate::store::Store;
use crate::tokens::TokenError;

/// Cursors are written this long after a change; a crash tells their messages again.
const WRITE_AFTER: Duration = Duration::from_millis(250);
/// After the store failed.
const WRITE_AGAIN: Duration = Duration::from_secs(5);
/// A connection that held this long was a good one: delays begin anew.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// Between attempts to exchange a token that expires; the server warns 60 s before.
const RENEW_EVERY: Duration = Duration::from_secs(7);
/// For a frame to be written to the socket.
const SEND_TIMEOUT: Duration = Duration::from_secs(12);
/// After a token was refused the next attempt comes at once, but not that of all clients at the same moment.
const NEW_TOKEN: Duration = Duration::from_millis(200);
/// For the close frame to be written.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
/// Commands that are done before frames are sent and the store is written.
const COMMANDS_AT_ONCE: usize = 256;

/// A message that is in the outbox.
pub(crate) type Handed = (String, watch::Receiver<Delivery>);

/// Something to do with the state.
pub(crate) type Run = Box<dyn FnOnce(&mut Core, Instant) + Send>;

/// What a program wants.
pub(crate) enum Command {
    Send {
        id: String,
        peer: Option<String>,
        draft: Draft,
        reply: oneshot::Sender<Result<Handed, Error>>,
    },
    /// Anything that needs neither connection nor store.
    With(Run),
    Stop,
}

/// A message that waits to be written to the store.
struct Adding {
    id: String,
    order: u64,
    handed: Handed,
    reply: oneshot::Sender<Result<Handed, Error>>,
}

/// The parts that a client's task and its handles share.
pub(crate) struct Links {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) state: watch::Sender<ConnectionState>,
    pub(crate) user: watch::Sender<Option<String>>,
    /// The gateway that is used, as a place in `urls`.
    pub(crate) gateway: Arc<AtomicUsize>,
}

/// The client's task.
pub(crate) struct Driver {
    core: Core,
    dialer: Dialer,
    urls: Arc<[String]>,
    store: Arc<dyn Store>,
    links: Links,
    backoff: Backoff,
    token_tried: bool,
    write_at: Option<Instant>,
    adding: Vec<Adding>,
}

/// The program wants the client to stop.
struct Stopped;

type Renewal = OptionFuture<BoxFuture<'static, Result<Option<String>, TokenError>>>;

impl Driver {
    pub(crate) fn new(
        core: Core,
        dialer: Dialer,
        urls: Arc<[String]>,
        store: Arc<dyn Store>,
        links: Links,
    ) -> Self {
        let (backoff, adding) = (Backoff::default(), Vec::new());
        Self { core, dialer, urls, store, links, backoff, token_tried: false, write_at: None, adding }
    }

    /// Runs until the program stops it, or until reconnecting is of no use.
    pub(crate) async fn run(mut self) {
        let (reason, by_the_program) = match Box::pin(self.connect_again_and_again()).await {
            Ok(reason) => (reason, false),
            Err(Stopped) => (Refusal { code: 0, message: "the client was stopped".to_owned() }, true),
        };
        self.core.offline();
        self.links.queue.give_back(by_the_program);
        self.core.processed();
        self.write().await;
        self.set_state(ConnectionState::Stopped { reason });
        self.links.queue.end();
    }

    async fn connect_again_and_again(&mut self) -> Result<Refusal, Stopped> {
        loop {
            self.set_state(ConnectionState::Connecting);
            let n = self.links.gateway.load(Ordering::Relaxed);
            let gateway = self.urls.get(n % self.urls.len().max(1)).cloned().unwrap_or_default();
            let dialing = self.dialer.clone().dial(gateway);
            let lost = match self.meanwhile(Box::pin(dialing)).await? {
                Ok(dialed) => {
                    let lost = self.converse(dialed).await;
                    self.core.offline();
                    lost?
                }
                Err(lost) => lost,
            };
            if let Some(trouble) = &lost.trouble {
                self.links.queue.put(Event::Trouble(trouble.clone()));
            }
            let has_tokens = match &self.dialer.identity {
                Identity::User(_) => false,
                Identity::Tokens(tokens) => {
                    if lost.then == AfterClose::Token {
                        tokens.refused().await;
                    }
                    true
                }
            };
            let delay = match lost.then {
                AfterClose::Stop => return Ok(lost.reason),
                AfterClose::Token if !has_tokens => return Ok(lost.reason),
                // At once with a new token; if that one is refused as well, after delays.
                AfterClose::Token if self.token_tried => self.backoff.next(),
                AfterClose::Token => {
                    self.token_tried = true;
                    NEW_TOKEN.mul_f64(rand::random_range(0.0..=1.0))
                }
                AfterClose::Wait(delay) => obey(delay),
                AfterClose::Backoff => self.backoff.next(),
            };
            if lost.then != AfterClose::Token {
                self.links.gateway.store(n + 1, Ordering::Relaxed);
            }
            self.set_state(ConnectionState::Waiting { delay, reason: lost.reason.to_string() });
            self.meanwhile(Box::pin(tokio::time::sleep(delay))).await?;
        }
    }

    /// Does what the program wants until `future` is ready.
    async fn meanwhile<F: Future + Unpin>(&mut self, mut future: F) -> Result<F::Output, Stopped> {
        loop {
            let wake = self.write_at;
            tokio::select! {
                output = &mut future => return Ok(output),
                commands = next_commands(&mut self.links.commands) => self.commands(commands)?,
                () = self.links.queue.read.notified() => self.core.processed(),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.write_if_due().await;
        }
    }

    async fn converse(&mut self, dialed: Dialed) -> Result<Lost, Stopped> {
        let Dialed { mut connection, login } = dialed;
        if let Err(reason) = self.identify(&login) {
            return Ok(reason);
        }
        let began = Instant::now();
        self.token_tried = false;
        self.core.online(&login, began);
        self.set_state(ConnectionState::Online);
        let lost = self.serve(&mut connection).await;
        if began.elapsed() > GOOD_AFTER {
            self.backoff.reset();
        }
        if lost.is_err() {
            // The server learns it from the close frame, or from the end of the socket.
            let _ = timeout(CLOSE_TIMEOUT, connection.socket().close(None)).await;
        }
        lost
    }

    async fn serve(&mut self, connection: &mut Connection) -> Result<Lost, Stopped> {
        let mut renewal: Renewal = None.into();
        let mut renew_at: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if self.core.is_overdue(now) {
                return Ok(Lost::new(AfterClose::Backoff, 0, "a request was not answered"));
            }
            for frame in self.core.pump(now) {
                if let Err(lost) = send(connection, frame).await {
                    return Ok(lost);
                }
            }
            let wake = [self.core.wake_at(now), self.write_at, renew_at].into_iter().flatten().min();
            tokio::select! {
                received = connection.receive() => match received {
                    Ok(frame) => if let Some(lost) = self.frame(&frame, &mut renew_at) {
                        return Ok(lost);
                    },
                    Err(error) => return Ok(Lost::of(error)),
                },
                commands = next_commands(&mut self.links.commands) => self.commands(commands)?,
                () = self.links.queue.read.notified() => self.core.processed(),
                Some(token) = &mut renewal => {
                    renewal = None.into();
                    renew_at = self.renewed(token, connection).await;
                }
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
            if renew_at.is_some_and(|at| at <= Instant::now())
                && let Identity::Tokens(tokens) = &self.dialer.identity
            {
                let tokens = tokens.clone();
                renewal = Some(Box::pin(async move { tokens.renew().await }) as BoxFuture<'static, _>).into();
                renew_at = None;
            }
            self.write_if_due().await;
        }
    }

    /// A frame of the server. Returns the end of the connection, if that is what it means.
    fn frame(&mut self, frame: &Packet, renew_at: &mut Option<Instant>) -> Option<Lost> {
        let now = Instant::now();
        if frame.cmd == 1 && frame.code != 0 {
            // The connection goes on with the token that it has.
            let refusal = Refusal::of(frame.code, &frame.payload);
            self.links.queue.put(Event::Trouble(format!("the new token was refused: {refusal}")));
            *renew_at = Some(now + RENEW_EVERY);
            return None;
        }
        match self.core.frame(frame, now) {
            Then::GoOn => None,
            Then::Renew => {
                *renew_at = Some(now);
                None
            }
            Then::LogIn => {
                let reason = Refusal::of(frame.code, &frame.payload);
                Some(Lost { then: AfterClose::Token, reason, trouble: None })
            }
        }
    }

    /// Exchanges the token of the connection. Returns when to try again.
    async fn renewed(
        &mut self,
        token: Result<Option<String>, TokenError>,
        connection: &mut Connection,
    ) -> Option<Instant> {
        match token {
            Ok(Some(token)) => {
                let frame = json!({"cmd": 1, "payload": {"token": token}}).to_string();
                // If the connection ends, the next one begins with this token.
                let _ = send(connection, frame).await;
                None
            }
            // The connection ends with its token, and the client stops then.
            Ok(None) => None,
            Err(error) => {
                self.links.queue.put(Event::Trouble(format!("the token was not renewed: {error}")));
                Some(Instant::now() + RENEW_EVERY)
            }
        }
    }

    /// The first login says who the user is.
    fn identify(&mut self, login: &Login) -> Result<(), Lost> {
        let Some(user) = &login.user_id else { return Ok(()) };
        match &self.core.meta.user_id {
            Some(kept) if kept != user => {
                let error = Error::OtherUser { kept: kept.clone(), user: user.clone() };
                Err(Lost::new(AfterClose::Stop, 403, error.to_string()))
            }
            Some(_) => Ok(()),
            None => {
                self.core.be(user.clone());
                self.links.user.send_replace(Some(user.clone()));
                Ok(())
            }
        }
    }

    fn set_state(&self, state: ConnectionState) {
        self.links.state.send_replace(state.clone());
        self.links.queue.put(Event::Connection(state));
    }

    /// Does what the program wants. Without a handle nobody wants anything any more.
    fn commands(&mut self, commands: Vec<Command>) -> Result<(), Stopped> {
        if commands.is_empty() {
            return Err(Stopped);
        }
        for command in commands {
            match command {
                Command::Stop => return Err(Stopped),
                Command::With(run) => run(&mut self.core, Instant::now()),
                Command::Send { id, peer, draft, reply } => {
                    self.core.name_peer(&id, peer.as_deref());
                    match self.core.add(&id, draft) {
                        Ok((order, msg_id, delivery)) => {
                            self.adding.push(Adding { id, order, handed: (msg_id, delivery), reply });
                        }
                        // Without a receiver nobody waits for it.
                        Err(refusal) => drop(reply.send(Err(refusal.into()))),
                    }
                }
            }
        }
        Ok(())
    }

    async fn write_if_due(&mut self) {
        let now = Instant::now();
        if !self.adding.is_empty() || self.write_at.is_some_and(|at| at <= now) {
            self.write().await;
        } else if self.core.is_dirty() {
            self.write_at.get_or_insert(now + WRITE_AFTER);
        }
    }

    /// Writes what changed: all of it in one step.
    async fn write(&mut self) {
        self.write_at = None;
        let (adding, writes) = (std::mem::take(&mut self.adding), self.core.take_writes());
        let written = if writes.is_empty() { Ok(()) } else { self.store.write(writes.clone()).await };
        match written {
            Ok(()) => {
                for Adding { id, order, handed, reply } in adding {
                    self.core.kept(&id, order);
                    // Without a receiver nobody waits for it.
                    let _ = reply.send(Ok(handed));
                }
            }
            Err(error) => {
                let sentence = error.to_string();
                self.core.put_back(writes);
                for Adding { id, handed, reply, .. } in adding {
                    self.core.discard(&id, &handed.0);
                    let _ = reply.send(Err(Error::Store(sentence.clone().into())));
                }
                self.links.queue.put(Event::Trouble(format!("the store could not be written: {sentence}")));
                self.write_at = Some(Instant::now() + WRITE_AGAIN);
            }
        }
    }
}

/// The commands that wait, at least one; none if there is no handle any more.
async fn next_commands(commands: &mut mpsc::Receiver<Command>) -> Vec<Command> {
    let mut next = Vec::new();
    commands.recv_many(&mut next, COMMANDS_AT_ONCE).await;
    next
}

async fn send(connection: &mut Connection, frame: String) -> Result<(), Lost> {
    match timeout(SEND_TIMEOUT, connection.send(frame)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Lost::of(error)),
        Err(_) => Err(Lost::new(AfterClose::Backoff, 0, "the server does not read")),
    }
}
