//! SIGHUP: the configuration is read again, and what can change while a process runs is applied.

use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::sample::{Difference, differences};
use crate::config::{ConfigError, Log};
use crate::live::Live;
use crate::telemetry::LogFilter;

/// Reads a configuration.
pub type Load<C> = Box<dyn Fn() -> Result<C, ConfigError> + Send + Sync>;

/// Which keys of a configuration can change while a process runs.
#[derive(Clone, Copy)]
pub struct LiveKeys<C> {
    /// Their names, such as `limits.connections_max`.
    pub names: &'static [&'static str],
    /// The first configuration, with the values that the second one has for these keys.
    pub changed: fn(&C, &C) -> C,
}

impl<C> Debug for LiveKeys<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.names.fmt(f)
    }
}

/// The configuration that a process works with, and how it is read again.
pub struct Reload<C> {
    live: Arc<Live<C>>,
    keys: LiveKeys<C>,
    log: fn(&C) -> &Log,
    load: Load<C>,
}

impl<C> Debug for Reload<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// What a configuration that was read again changes.
#[derive(Debug, PartialEq, Eq)]
struct Changes<C> {
    /// The configuration that applies from now on.
    config: C,
    applied: Vec<Difference>,
    /// Keys whose values differ from those of the start. Secrets are not compared, since they are not shown.
    need_restart: Vec<String>,
}

impl<C: Debug + 'static> Reload<C> {
    /// A process that works with `live`, of which `keys` can change, and which `load` reads again; `log` is its section of that
    /// name.
    #[must_use]
    pub fn new(live: Arc<Live<C>>, keys: LiveKeys<C>, log: fn(&C) -> &Log, load: Load<C>) -> Self {
        Self { live, keys, log, load }
    }

    /// The section at present.
    pub(crate) fn log(&self) -> Log {
        (self.log)(&self.live.now()).clone()
    }

    /// Reads the configuration again at each SIGHUP, and says what has changed. With an invalid one, nothing changes.
    pub(crate) async fn at_hangups(self, filter: LogFilter) -> Infallible {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "SIGHUP cannot be awaited; the configuration is not read again");
                return std::future::pending().await;
            }
        };
        loop {
            hangups.recv().await;
            match self.apply(&filter) {
                Ok((applied, need_restart)) => {
                    let line = line(&applied, &need_restart);
                    if need_restart.is_empty() {
                        tracing::info!("The configuration was read again: {line}");
                    } else {
                        let keys = need_restart.join(", ");
                        tracing::warn!(%keys, "The configuration was read again: {line}");
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "The configuration cannot be read again, and nothing changes: {error}");
                }
            }
        }
    }

    fn apply(&self, filter: &LogFilter) -> Result<(Vec<Difference>, Vec<String>), ConfigError> {
        let Changes { config, applied, need_restart } = self.changes()?;
        filter.set(&(self.log)(&config).filter)?;
        self.live.change(Arc::new(config));
        Ok((applied, need_restart))
    }

    fn changes(&self) -> Result<Changes<C>, ConfigError> {
        let (now, new) = (self.live.now(), (self.load)()?);
        let config = (self.keys.changed)(&now, &new);
        let applied = differences(&*now, &config);
        // What cannot change has the values of the start.
        let need_restart = differences(&config, &new).into_iter().map(|differing| differing.key).collect();
        Ok(Changes { config, applied, need_restart })
    }
}

fn line(applied: &[Difference], need_restart: &[String]) -> String {
    let mut parts: Vec<String> = applied
        .iter()
        .map(|Difference { key, from, to }| format!("{key} changes from {from} to {to}"))
        .collect();
    if parts.is_empty() {
        parts.push("nothing changes".to_owned());
    }
    if !need_restart.is_empty() {
        parts.push(format!("these changes need a restart: {}", need_restart.join(", ")));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::config::{LogFormat, Mysql};

    #[derive(Debug, Default, Clone, PartialEq, Eq)]
    struct Limits {
        users: u32,
    }

    #[derive(Debug, Default, Clone)]
    struct Config {
        mysql: Mysql,
        limits: Limits,
        log: Log,
    }

    const KEYS: LiveKeys<Config> = LiveKeys {
        names: &["limits.users", "log.filter"],
        changed: |now, new| {
            let mut config = Config { limits: new.limits.clone(), ..now.clone() };
            config.log.filter.clone_from(&new.log.filter);
            config
        },
    };

    fn reload(live: &Arc<Live<Config>>, new: Result<Config, ConfigError>) -> Reload<Config> {
        let new = Mutex::new(Some(new));
        let load = Box::new(move || new.lock().take().unwrap());
        Reload::new(Arc::clone(live), KEYS, |config| &config.log, load)
    }

    #[test]
    fn live_keys_are_applied_and_other_keys_need_a_restart() {
        let live = Arc::new(Live::new(Arc::new(Config::default())));
        let read = |new: &Config| {
            let changes = reload(&live, Ok(new.clone())).changes().unwrap();
            live.change(Arc::new(changes.config));
            line(&changes.applied, &changes.need_restart)
        };
        let mut config = Config::default();
        assert_eq!(read(&config), "nothing changes");
        config.log.filter = "debug".to_owned();
        config.limits.users = 7;
        assert_eq!(
            read(&config),
            "limits.users changes from 0 to 7; log.filter changes from \"info\" to \"debug\""
        );
        config.log.format = LogFormat::Json;
        config.mysql.connections_max = 3;
        config.mysql.url = "mysql://other/im".into();
        let need_restart = "log.format, mysql.connections_max, mysql.url";
        assert_eq!(read(&config), format!("nothing changes; these changes need a restart: {need_restart}"));
        config.limits.users = 8;
        assert!(
            read(&config).starts_with("limits.users changes from 7 to 8; these"),
            "not from the start's 0"
        );
        assert_eq!((live.now().limits.users, &live.now().log.format), (8, &LogFormat::Human));
        assert!(reload(&live, Err(ConfigError::key("log.filter", "is malformed"))).changes().is_err());
    }
}
