//! A timer without the resolution of tokio's, which ends a wait up to two milliseconds late.
//!
//! Latency counts from the moment at which a message is due, so a sender that is late makes a system look slow: of 1.8 ms
//! until a reply, the half was the timer's.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// The end of a longer wait is left to the timer of the kernel; the rest costs no system call.
const EXACT: Duration = Duration::from_millis(5);

/// A timer of the kernel (`timerfd`). It is late by the time that the thread takes to wake up.
#[derive(Debug)]
pub(super) struct ExactTimer {
    timer: AsyncFd<Descriptor>,
}

#[derive(Debug)]
struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl ExactTimer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe code; the descriptor is owned here until it is dropped"
        )]
        let timer = AsyncFd::with_interest(Descriptor(timer), Interest::READABLE)?;
        Ok(Self { timer })
    }

    /// Waits until `moment`. Cancel safe.
    ///
    /// # Errors
    /// The kernel's, which has no reason for one.
    pub(super) async fn sleep_until(&mut self, moment: Instant) -> io::Result<()> {
        // As tokio's timer: a caller whose moments are all past must not keep the thread from the sockets.
        tokio::task::coop::consume_budget().await;
        if let Some(early) = moment.checked_sub(EXACT)
            && early > Instant::now()
        {
            sleep_until(early).await;
        }
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let once = Expiration::OneShot(TimeSpec::from_duration(left));
            self.timer.get_ref().0.set(once, TimerSetTimeFlags::empty())?;
            // It may be readable because of an earlier wait that was cancelled: then the moment has not come.
            let waited =
                self.timer.async_io(Interest::READABLE, |timer| timer.0.wait().map_err(io::Error::from));
            waited.await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn waits_for_past_moments_let_other_tasks_run() {
        let (past, has_run) = (Instant::now(), Cell::new(false));
        let mut timer = ExactTimer::new().unwrap();
        let waiting = async {
            while !has_run.get() {
                timer.sleep_until(past).await.unwrap();
            }
        };
        tokio::join!(waiting, async { has_run.set(true) });
    }

    #[tokio::test]
    async fn no_wait_ends_early_also_after_one_that_was_cancelled() {
        let mut timer = ExactTimer::new().unwrap();
        for (cancelled_us, wait_us) in [(0, 0), (0, 300), (200, 2_000), (200, 1), (50, 7_000)] {
            let cancelled = Instant::now() + Duration::from_micros(cancelled_us);
            let mut waiting = Box::pin(timer.sleep_until(cancelled));
            let _ = futures_util::poll!(&mut waiting);
            drop(waiting);
            let moment = Instant::now() + Duration::from_micros(wait_us);
            timer.sleep_until(moment).await.unwrap();
            assert!(Instant::now() >= moment, "{cancelled_us} {wait_us}");
        }
    }
}
