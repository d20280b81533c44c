//! The frame of a process: configuration, logs, signals and exit codes, the same for gateway and worker.

use std::error::Error;
use std::process::ExitCode;

use crate::config::{ConfigError, Log};
use crate::telemetry::{error_line, init_logs, init_tls};

/// Exit code for a configuration that cannot be used, as in sysexits.h.
const EX_CONFIG: u8 = 78;

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
    eprintln!("{program}: {}", error_line(error));
    if error.is::<ConfigError>() { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
}

/// Starts a service, waits for SIGTERM or SIGINT, and stops it. A signal during the start ends the process at once.
///
/// # Errors
/// The error of `start`; `log.filter` is malformed; the signal handlers cannot be installed.
pub async fn serve<A, E>(
    log: Log,
    start: impl Future<Output = Result<A, E>>,
    stop: impl AsyncFnOnce(A),
) -> Result<(), E>
where
    E: From<ConfigError> + From<std::io::Error>,
{
    init_logs(&log)?;
    init_tls();
    let signal = crate::shutdown::signal();
    tokio::pin!(signal);
    let service = tokio::select! {
        started = start => started?,
        received = &mut signal => return Ok(received?),
    };
    signal.await?;
    stop(service).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
