//! Logs and metrics of a process.

mod log_lines;

use std::io::IsTerminal as _;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{ConfigError, Log, LogFormat};
use log_lines::{CapLibraries, log_panics};
pub use log_lines::{LogGuard, lines_lost};

/// Libraries whose log lines repeat what our own lines say, without saying which connection failed and what happens
/// next. lapin also logs an error when a connection is closed in order. `log.filter` can name them to switch them on.
const QUIET: &str = "lapin=off";

/// The filter of log lines, which can be replaced.
#[derive(Debug, Clone)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Replaces it.
    ///
    /// # Errors
    /// Names `log.filter` if it cannot be parsed; the filter stays as it is.
    pub fn set(&self, filter: &str) -> Result<(), ConfigError> {
        let filter = parsed(filter)?;
        self.0.reload(filter).map_err(|error| ConfigError::key("log.filter", error))
    }
}

fn parsed(filter: &str) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| ConfigError::key("log.filter", error))
}

/// Starts to write log lines to standard output, until the guard is dropped. Writing never blocks and never fails: lines
/// for which there is no room, or that standard output does not take, are dropped and [counted](lines_lost). A panic
/// becomes a log line too.
///
/// # Errors
/// Names `log.filter` if it cannot be parsed.
pub fn init_logs(settings: &Log) -> Result<(LogGuard, LogFilter), ConfigError> {
    let (filter, handle) = reload::Layer::new(log_filter(settings)?);
    let (writer, guard) = log_lines::writer();
    // Standard error may be the same full disk or unread pipe.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let subscriber = tracing_subscriber::registry().with(filter).with(CapLibraries);
    // A second initialization (tests that run two apps in one process) keeps the first.
    let _ = match settings.format {
        LogFormat::Human => subscriber.with(lines.with_ansi(std::io::stdout().is_terminal())).try_init(),
        LogFormat::Json => subscriber.with(lines.json().flatten_event(true)).try_init(),
    };
    log_panics();
    Ok((guard, LogFilter(handle)))
}

/// The filter of `settings`.
///
/// # Errors
/// Names `log.filter` if it cannot be parsed.
pub fn log_filter(settings: &Log) -> Result<EnvFilter, ConfigError> {
    parsed(&settings.filter)
}

/// The bucket bounds of all histograms in seconds (`…_seconds`): from a Redis command to a push behind a backlog. The same
/// in all processes, so that the buckets of several ones can be added.
const SECONDS: [f64; 17] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1.0, 2.0, 5.0,
    10.0, 30.0,
];
/// The bucket bounds of all histograms that count (`…_messages`): batch sizes.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// How often the values of histograms are added to their buckets if nobody reads `/metrics`.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Installs the recorder of the `metrics` macros and returns its handle, which renders Prometheus text. The recorder
/// belongs to the process: further calls return a handle to the same one, with the figures of all applications in it.
///
/// # Errors
/// The bucket bounds are refused.
pub fn init_metrics() -> Result<PrometheusHandle, BuildError> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock();
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_messages".to_owned()), &COUNTS)?
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed in this process: /metrics stays empty");
    }
    crate::metrics::describe();
    keep_small(handle.clone());
    Ok(installed.insert(handle).clone())
}

/// Adds the values of histograms to their buckets now and then: the recorder keeps each one until then, or until
/// `/metrics` is read, which may be never. Also looks at the process as the kernel sees it, apart from the readers of
/// `/metrics`: to count 100,000 open files, a Linux before 6.2 takes tens of milliseconds.
fn keep_small(metrics: PrometheusHandle) {
    let upkeep = move || {
        let process = metrics_process::Collector::default();
        loop {
            process.collect();
            std::thread::sleep(UPKEEP_INTERVAL);
            metrics.run_upkeep();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("metrics upkeep".to_owned()).spawn(upkeep) {
        tracing::warn!(%error, "Cannot start the upkeep of metrics; their memory grows until /metrics is read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_applications_of_a_process_render_the_same_metrics() {
        let (first, second) = (init_metrics().unwrap(), init_metrics().unwrap());
        metrics::counter!(crate::metrics::PUSH_DROPPED).increment(3);
        for handle in [first, second] {
            assert!(handle.render().contains(crate::metrics::PUSH_DROPPED));
        }
    }
}
