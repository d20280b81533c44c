//! Decides about one message: by a call of the endpoint, or by `hook.on_failure` where that has no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use metrics::{counter, histogram};
use parking_lot::{Mutex, RwLock};
use shared::config::ConfigError;
use shared::message::Message;
use shared::metrics::{
    GATEWAY_HOOK_CALLS, GATEWAY_HOOK_NOT_CALLED, GATEWAY_HOOK_TIME, GATEWAY_HOOK_UNDECIDED,
};
use shared::permits::Permits;
use shared::shutdown::Shutdown;
use tokio::time::{Instant, timeout_at};

use super::breaker::{Breaker, BreakerPolicy, Change};
use super::endpoint::{CallError, Endpoint};
use super::scope::Scope;
use crate::config::{self, OnFailure};
use crate::wire::hook::{self, Answer, Replacement};

/// How often it is logged that messages are not decided about, while the breaker is closed.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It is accepted as it is.
    Allow,
    /// It is refused for good, with this sentence.
    Refuse(String),
    /// It is accepted with another content.
    Replace(Replacement),
    /// It is not decided about, and not accepted: its sender tries again.
    TryAgain,
}

/// Why the endpoint has not decided.
#[derive(Debug, thiserror::Error)]
enum Undecided {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("its circuit breaker is open")]
    Breaker,
    #[error("hook.calls_at_once calls were in progress for too long")]
    Limit,
    #[error("too little time was left for a call")]
    Late,
}

/// A message that the endpoint is asked about.
#[derive(Debug)]
pub(crate) struct Question {
    present: Arc<Present>,
    body: Bytes,
}

/// What gauges show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HookGauges {
    /// Calls in progress.
    pub(crate) calls: usize,
    /// Whether the circuit breaker is open or half-open.
    pub(crate) is_open: bool,
}

/// The hook before sending.
#[derive(Debug)]
pub(crate) struct Hook {
    /// It was switched on at some time since the start: messages may wait for it.
    is_used: AtomicBool,
    /// `None` while it is switched off.
    present: RwLock<Option<Arc<Present>>>,
    calls: Permits,
    failure_logged: Mutex<Option<Instant>>,
    tasks: Shutdown,
}

/// What applies at present.
#[derive(Debug)]
struct Present {
    scope: Scope,
    endpoint: Endpoint,
    timeout: Duration,
    on_failure: OnFailure,
    policy: BreakerPolicy,
    breaker: Mutex<Breaker>,
}

impl Present {
    /// `None` if the hook is switched off.
    fn of(config: &config::Hook) -> Result<Option<Arc<Self>>, ConfigError> {
        if !config.is_on() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            scope: Scope::of(config),
            endpoint: Endpoint::new(config)?,
            timeout: config.timeout(),
            on_failure: config.on_failure,
            policy: BreakerPolicy {
                failures: config.breaker_failures,
                percent: config.breaker_percent,
                open_for: Duration::from_millis(config.breaker_open_ms),
            },
            breaker: Mutex::new(Breaker::new()),
        })))
    }
}

impl Hook {
    /// The hook of `config`. Messages wait for it in `tasks`.
    ///
    /// # Errors
    /// A file was changed since the configuration was checked, or TLS cannot be set up.
    pub(crate) fn new(config: &config::Hook, tasks: Shutdown) -> Result<Self, ConfigError> {
        let present = Present::of(config)?;
        Ok(Self {
            is_used: AtomicBool::new(present.is_some()),
            present: RwLock::new(present),
            calls: Permits::new(config.calls_at_once),
            failure_logged: Mutex::new(None),
            tasks,
        })
    }

    /// Applies `config` from now on. Messages that wait are decided by what applied when they came.
    pub(crate) fn set(&self, config: &config::Hook, tasks: &Shutdown) {
        match Present::of(config) {
            Ok(present) => {
                self.is_used.fetch_or(present.is_some(), Ordering::Release);
                *self.present.write() = present;
            }
            Err(error) => {
                tracing::error!(%error, "The hook before sending stays what it was, because its new configuration is unusable");
            }
        }
        self.calls.resize(config.calls_at_once, tasks);
    }

    /// Whether it is, or was, switched on. While not, nothing else of it is looked at.
    #[must_use]
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }

    /// The tasks in which messages wait.
    #[must_use]
    pub(crate) fn tasks(&self) -> &Shutdown {
        &self.tasks
    }

    /// What gauges show; `None` if it was never on.
    #[must_use]
    pub(crate) fn gauges(&self) -> Option<HookGauges> {
        if !self.is_used() {
            return None;
        }
        let is_open = self.present.read().as_ref().is_some_and(|present| present.breaker.lock().is_open());
        Some(HookGauges { calls: self.calls.in_use(), is_open })
    }

    /// What to ask about `message`; `None` if it may be sent without a decision.
    #[must_use]
    pub(crate) fn question(&self, message: &Message) -> Option<Question> {
        let present = Arc::clone(self.present.read().as_ref().filter(|present| present.scope.has(message))?);
        Some(Question { present, body: hook::request(message).into() })
    }

    /// Decides by `until`. A call begins early enough to have its whole time, or not at all.
    pub(crate) async fn decide(&self, question: Question, until: Instant) -> Decision {
        let Question { present, body } = question;
        match self.ask(&present, body, until).await {
            Ok(Answer::Allow) => Decision::Allow,
            Ok(Answer::Refuse(sentence)) => Decision::Refuse(sentence),
            Ok(Answer::Replace(replacement)) => Decision::Replace(replacement),
            Err(why) => self.undecided(present.on_failure, &why),
        }
    }

    async fn ask(&self, present: &Present, body: Bytes, until: Instant) -> Result<Answer, Undecided> {
        // Nobody waits for a call that would not begin.
        let now = Instant::now();
        if present.breaker.lock().blocks(now) {
            return Err(Undecided::Breaker);
        }
        let latest = until.checked_sub(present.timeout).filter(|latest| now <= *latest);
        let latest = latest.ok_or(Undecided::Late)?;
        let permit = match Arc::clone(self.calls.semaphore()).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = timeout_at(latest, Arc::clone(self.calls.semaphore()).acquire_owned());
                waiting.await.ok().and_then(Result::ok).ok_or(Undecided::Limit)?
            }
        };
        let begin = Instant::now();
        let call = present.breaker.lock().begin(present.policy, begin).ok_or(Undecided::Breaker)?;
        let answer = present.endpoint.call(body, until.min(begin + present.timeout)).await;
        drop(permit);
        let end = Instant::now();
        histogram!(GATEWAY_HOOK_TIME).record(end - begin);
        let outcome = match &answer {
            Ok(Answer::Allow) => "allowed",
            Ok(Answer::Refuse(_)) => "refused",
            Ok(Answer::Replace(_)) => "replaced",
            Err(error) => error.outcome(),
        };
        counter!(GATEWAY_HOOK_CALLS, "outcome" => outcome).increment(1);
        let change = present.breaker.lock().end(present.policy, call, answer.is_err(), end);
        log(change, present, answer.as_ref().err());
        Ok(answer?)
    }

    /// Decides about a message without an answer.
    fn undecided(&self, on_failure: OnFailure, why: &Undecided) -> Decision {
        let (decision, label) = match on_failure {
            OnFailure::Allow => (Decision::Allow, "allowed"),
            OnFailure::Refuse => (Decision::TryAgain, "refused"),
        };
        counter!(GATEWAY_HOOK_UNDECIDED, "decision" => label).increment(1);
        match why {
            Undecided::Breaker => counter!(GATEWAY_HOOK_NOT_CALLED, "reason" => "breaker").increment(1),
            Undecided::Limit => counter!(GATEWAY_HOOK_NOT_CALLED, "reason" => "limit").increment(1),
            Undecided::Late => counter!(GATEWAY_HOOK_NOT_CALLED, "reason" => "late").increment(1),
            Undecided::Call(_) => {}
        }
        if !matches!(why, Undecided::Breaker) && self.is_failure_to_log() {
            tracing::warn!(error = %why, "The hook before sending has not decided about a message, which is {label} by hook.on_failure");
        }
        decision
    }

    fn is_failure_to_log(&self) -> bool {
        let mut logged = self.failure_logged.lock();
        let is_due = logged.is_none_or(|logged| logged.elapsed() > FAILURE_LOG_INTERVAL);
        if is_due {
            *logged = Some(Instant::now());
        }
        is_due
    }
}

fn log(change: Option<Change>, present: &Present, error: Option<&CallError>) {
    let open_ms = present.policy.open_for.as_millis();
    match (change, error) {
        (Some(Change::Opened), Some(error)) => tracing::warn!(
            %error, open_ms, on_failure = ?present.on_failure,
            "The circuit breaker of the hook before sending opens; hook.on_failure decides about messages until a call succeeds"
        ),
        (Some(Change::Closed), _) => {
            tracing::info!("The circuit breaker of the hook before sending closes; the hook decides again");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
