//! The frame of a process: configuration, logs, signals and exit codes, the same for gateway and worker.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::ConfigError;
use crate::error_text::error_line;
use crate::reload::Reload;
use crate::telemetry::init_logs;
use crate::tls;

/// The commit of the build, for a program whose build script is `shared/build/commit.rs`. The environment of the compiler names
/// it, since sources without their repository are built, too; otherwise it is the one that the build script found. A macro, so
/// that only the file that calls it is compiled again for another commit.
#[macro_export]
macro_rules! build_commit {
    () => {
        match (option_env!("IM_COMMIT"), option_env!("IM_GIT_COMMIT")) {
            (Some(commit), _) if !commit.is_empty() => commit,
            (_, Some(commit)) => commit,
            _ => "unknown",
        }
    };
}

/// Exit code for a configuration that cannot be used, as in sysexits.h.
const EX_CONFIG: u8 = 78;
/// How long standard error may take to accept the last line.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs `work` with `config`, and reports an error as one line on standard error.
///
/// The exit code is 78 if the configuration cannot be used (`config` is an error, or `work` ends with a
/// [`ConfigError`]), 1 for another error, and 0 otherwise.
pub async fn run<C, E>(
    program: &str,
    config: Result<C, ConfigError>,
    work: impl AsyncFnOnce(C) -> Result<(), E>,
) -> ExitCode
where
    E: AsRef<dyn Error + Send + Sync + 'static>,
{
    let config = match config {
        Ok(config) => config,
        Err(error) => return report(program, &error),
    };
    match work(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(program, error.as_ref()),
    }
}

fn report(program: &str, error: &(dyn Error + Send + Sync + 'static)) -> ExitCode {
    let line = format!("{program}: {}\n", error_line(error));
    // On a thread of its own: standard error may be a full disk, or a pipe that nobody reads, and the process must end.
    let (written, is_written) = std::sync::mpsc::channel();
    std::thread::spawn(move || written.send(std::io::stderr().write_all(line.as_bytes())));
    let _ = is_written.recv_timeout(REPORT_TIMEOUT);
    if error.is::<ConfigError>() { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
}

/// A running gateway or worker.
pub trait Service {
    /// Resolves when a task has ended without which it cannot work, and says which one.
    fn failed(&self) -> impl Future<Output = String>;

    /// Stops it in order. What takes longer than its grace period is abandoned.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Starts a service, waits for SIGTERM or SIGINT, and stops it. A signal during the start ends the process at once. A
/// service that fails is stopped too, and its failure is the result: the process ends with exit code 1, for its supervisor
/// to start it again. At SIGHUP, `reload` reads the configuration again.
///
/// # Errors
/// The error of `start`; the failure of the service; `log.filter` is malformed; the signal handlers cannot be installed.
pub async fn serve<C, A, E>(reload: Reload<C>, start: impl Future<Output = Result<A, E>>) -> Result<(), E>
where
    C: std::fmt::Debug + 'static,
    A: Service,
    E: From<ConfigError> + From<std::io::Error>,
{
    // Writes the last lines when it is dropped.
    let (_logs, filter) = init_logs(&reload.log())?;
    tls::init();
    tokio::select! {
        ended = run_until(crate::shutdown::signal(), start) => ended,
        never = reload.at_hangups(filter) => match never {},
    }
}

async fn run_until<A, E>(
    signal: impl Future<Output = std::io::Result<()>>,
    start: impl Future<Output = Result<A, E>>,
) -> Result<(), E>
where
    A: Service,
    E: From<std::io::Error>,
{
    tokio::pin!(signal);
    let service = tokio::select! {
        started = start => started?,
        received = &mut signal => return Ok(received?),
    };
    tell_supervisor(sd_notify::NotifyState::Ready);
    let failure = tokio::select! {
        received = &mut signal => { received?; None }
        failure = service.failed() => Some(failure),
    };
    tell_supervisor(sd_notify::NotifyState::Stopping);
    service.stop().await;
    failure.map_or(Ok(()), |failure| Err(std::io::Error::other(failure).into()))
}

/// For `Type=notify` of systemd: a restart of several units waits for each until it is ready. Without systemd, nothing.
fn tell_supervisor(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "Cannot tell systemd the state of the process; a unit with Type=notify may be stopped");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::shutdown::Shutdown;

    /// As `anyhow::Error`: an error that is not itself of the type that it contains.
    struct Wrapped(Box<dyn Error + Send + Sync>);

    impl AsRef<dyn Error + Send + Sync + 'static> for Wrapped {
        fn as_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
            &*self.0
        }
    }

    async fn exit_code(config: Result<(), ConfigError>, result: Result<(), Wrapped>) -> String {
        format!("{:?}", run("test", config, async |()| result).await)
    }

    struct Tasks(Shutdown);

    impl Service for Tasks {
        fn failed(&self) -> impl Future<Output = String> {
            self.0.failed()
        }

        async fn stop(self) {
            self.0.finish(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test]
    async fn a_service_runs_until_the_signal_or_its_failure() {
        let start = async |task: BoxFuture<'static, ()>| {
            let tasks = Shutdown::new();
            tasks.spawn_essential("a task", task);
            Ok::<_, std::io::Error>(Tasks(tasks))
        };
        let never = std::future::pending::<()>().boxed();
        assert!(run_until(async { Ok(()) }, start(never)).await.is_ok());
        let signal = std::future::pending();
        let error = run_until(signal, start(async {}.boxed())).await.unwrap_err();
        assert!(error.to_string().contains("a task"), "{error}");
    }

    #[tokio::test]
    async fn the_exit_code_tells_configuration_errors_from_others() {
        let config_error = || ConfigError::key("log.filter", "is malformed");
        let expected = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(exit_code(Ok(()), Ok(())).await, expected(0));
        assert_eq!(exit_code(Err(config_error()), Ok(())).await, expected(78));
        assert_eq!(exit_code(Ok(()), Err(Wrapped(config_error().into()))).await, expected(78));
        assert_eq!(exit_code(Ok(()), Err(Wrapped("port in use".into()))).await, expected(1));
    }
}
