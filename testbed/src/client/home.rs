//! Return of a client to the gateway that it prefers.

use tokio::sync::Notify;

/// Tells a client to return to the first of its gateways.
#[derive(Debug, Default)]
pub(super) struct Home(Notify);

impl Home {
    pub(super) fn call(&self) {
        self.0.notify_one();
    }

    /// Resolves when the client is called. A call has no effect unless it is `away`.
    pub(super) async fn called(&self, away: bool) {
        loop {
            self.0.notified().await;
            if away {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_call_concerns_a_client_that_is_away_and_none_that_is_at_home() {
        let home = Home::default();
        assert_eq!(home.called(true).now_or_never(), None);
        home.call();
        assert_eq!(home.called(false).now_or_never(), None);
        assert_eq!(home.called(true).now_or_never(), None, "the call at home is over");
        home.call();
        assert_eq!(home.called(true).now_or_never(), Some(()));
    }
}
