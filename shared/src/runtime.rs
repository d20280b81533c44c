//! The tokio runtime of a process.

use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

use crate::config::Threads;

/// Runs `work` on a runtime with the configured number of threads, and returns its exit code.
pub fn run(program: &str, threads: Threads, work: impl Future<Output = ExitCode>) -> ExitCode {
    match runtime(threads) {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            eprintln!("{program}: cannot start threads: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime with the configured number of threads. One thread is a runtime without workers: tasks run on the thread that
/// blocks on it, and no task is ever handed to another thread.
///
/// # Errors
/// The system's, if threads or the poller cannot be made.
fn runtime(threads: Threads) -> io::Result<Runtime> {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let mut builder = match threads.on(cores) {
        1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().build()
}
