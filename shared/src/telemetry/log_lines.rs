//! How log lines are written, and which ones are not.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that wait to be written; further ones are dropped.
const WAITING_MAX: usize = 16_384;
/// Our own crates; their lines have no contents and no secrets at any level.
const OWN: [&str; 4] = ["gateway", "worker", "shared", "proto"];

/// Lines that standard output refused, for example because its disk is full.
static REFUSED: AtomicU64 = AtomicU64::new(0);
/// Lines that were dropped because too many waited, for example because nobody reads the pipe.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Writes log lines until it is dropped. Then it waits for at most a second for the lines that are still waiting.
#[derive(Debug)]
pub struct LogGuard(#[expect(dead_code, reason = "held, not read")] WorkerGuard);

/// The number of log lines of this process that were not written.
#[must_use]
pub fn lines_lost() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    REFUSED.load(Ordering::Relaxed) + u64::try_from(dropped).unwrap_or(u64::MAX)
}

/// A writer that never blocks and never fails; a thread of its own writes to standard output.
pub(super) fn writer() -> (NonBlocking, LogGuard) {
    let builder = NonBlockingBuilder::default().buffered_lines_limit(WAITING_MAX).lossy(true);
    let (writer, guard) = builder.thread_name("log lines").finish(Counted(io::stdout()));
    // A second writer of this process has no lines.
    let _ = DROPPED.set(writer.error_counter());
    (writer, LogGuard(guard))
}

/// Counts failed writes instead of reporting them: there is no place to report them to.
struct Counted<W>(W);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The writing thread passes whole lines.
        if self.0.write_all(line).and_then(|()| self.0.flush()).is_err() {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Drops the lines of libraries below the level "info", whatever `log.filter` says: they contain frames, statements and
/// commands, and with them contents and tokens.
pub(super) struct CapLibraries;

impl<S: Subscriber> Layer<S> for CapLibraries {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_allowed(metadata.target(), *metadata.level())
    }
}

fn is_allowed(target: &str, level: Level) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    level <= Level::INFO || OWN.contains(&name)
}

/// Logs each panic, with its place. Its message is logged only if it is a constant: another one may contain values, for
/// example a text that was cut in the middle of a character.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message =
            panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("no constant message");
        tracing::error!(panic.place = %place, panic.message = message, "A panic at {place}: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_is_no_error() {
        let before = lines_lost();
        assert_eq!(Counted(Full).write(b"a line\n").unwrap(), 7);
        assert_eq!(lines_lost(), before + 1);
        assert_eq!(Counted(io::sink()).write(b"a line\n").unwrap(), 7);
        assert_eq!(lines_lost(), before + 1);
    }

    #[test]
    fn libraries_log_nothing_below_info() {
        for target in
            ["tungstenite::protocol", "hyper", "lapin::frames", "fred::router", "sqlx::query", "log"]
        {
            assert!(is_allowed(target, Level::ERROR) && is_allowed(target, Level::INFO), "{target}");
            assert!(!is_allowed(target, Level::DEBUG) && !is_allowed(target, Level::TRACE), "{target}");
        }
        for target in ["gateway", "gateway::send::pipeline", "worker::commit", "shared::amqp::broker"] {
            assert!(is_allowed(target, Level::DEBUG) && is_allowed(target, Level::TRACE), "{target}");
        }
        assert!(!is_allowed("gateway_of_another_crate", Level::DEBUG));
    }
}
