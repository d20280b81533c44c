//! SIGHUP: the configuration is read again, and what can change while a process runs is applied.

use std::convert::Infallible;
use std::fmt::Debug;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::sample::differing_values;
use crate::config::{ConfigError, Log};
use crate::telemetry::LogFilter;

/// The key that is applied.
const FILTER: &str = "log.filter";

/// Reads a configuration.
pub type Load<C> = Box<dyn Fn() -> Result<C, ConfigError> + Send + Sync>;

/// The configuration that a process started with, and how it is read again.
pub struct Reload<C> {
    started_with: C,
    log: fn(&C) -> &Log,
    load: Load<C>,
}

impl<C> Debug for Reload<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reload")
    }
}

/// What a configuration that was read again changes.
#[derive(Debug, PartialEq, Eq)]
struct Changes {
    /// The filter of log lines, which is applied.
    filter: String,
    /// Keys whose values differ from those of the start. Secrets are not compared, since they are not shown.
    need_restart: Vec<String>,
}

impl<C: Debug> Reload<C> {
    /// A process that started with `started_with`, which `load` reads again; `log` is its section of that name.
    #[must_use]
    pub fn new(started_with: C, log: fn(&C) -> &Log, load: Load<C>) -> Self {
        Self { started_with, log, load }
    }

    /// The section of the start.
    pub(crate) fn log(&self) -> &Log {
        (self.log)(&self.started_with)
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
            let applied = self.changes().and_then(|changes| {
                filter.set(&changes.filter)?;
                Ok(changes)
            });
            match applied {
                Ok(Changes { filter, need_restart }) if need_restart.is_empty() => {
                    tracing::info!(%filter, "The configuration was read again: log.filter is \"{filter}\"; nothing needs a restart");
                }
                Ok(Changes { filter, need_restart }) => {
                    let keys = need_restart.join(", ");
                    tracing::warn!(
                        %filter, %keys,
                        "The configuration was read again: log.filter is \"{filter}\"; these changes need a restart: {keys}"
                    );
                }
                Err(error) => {
                    tracing::error!(%error, "The configuration cannot be read again, and nothing changes: {error}");
                }
            }
        }
    }

    fn changes(&self) -> Result<Changes, ConfigError> {
        let new = (self.load)()?;
        let mut need_restart = differing_values(&self.started_with, &new);
        need_restart.retain(|key| key != FILTER);
        Ok(Changes { filter: (self.log)(&new).filter.clone(), need_restart })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, Mysql};

    #[derive(Debug, Default, Clone)]
    struct Config {
        mysql: Mysql,
        log: Log,
    }

    fn reload(new: Result<Config, ConfigError>) -> Reload<Config> {
        let new = std::sync::Mutex::new(Some(new));
        Reload::new(
            Config::default(),
            |config| &config.log,
            Box::new(move || new.lock().unwrap().take().unwrap()),
        )
    }

    #[test]
    fn the_filter_is_applied_and_other_keys_need_a_restart() {
        let mut config = Config::default();
        let same = reload(Ok(config.clone())).changes().unwrap();
        assert_eq!(same, Changes { filter: "info".to_owned(), need_restart: vec![] });
        config.log.filter = "debug".to_owned();
        config.log.format = LogFormat::Json;
        config.mysql.connections_max = 3;
        config.mysql.url = "mysql://other/im".into();
        let changes = reload(Ok(config)).changes().unwrap();
        assert_eq!(changes.filter, "debug");
        assert_eq!(changes.need_restart, ["log.format", "mysql.connections_max", "mysql.url"]);
        assert!(reload(Err(ConfigError::key("log.filter", "is malformed"))).changes().is_err());
    }
}
