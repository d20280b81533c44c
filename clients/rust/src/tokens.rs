//! The token, and when a new one is asked for.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

/// Why a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenReason {
    /// For the first connection.
    Login,
    /// The present one is about to expire.
    Expiring,
    /// The server did not accept the present one.
    Refused,
}

/// Why a provider has no token at the moment.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

type Provider = dyn Fn(TokenReason) -> BoxFuture<'static, Result<Option<String>, TokenError>> + Send + Sync;

/// Keeps the present token until the server refuses it or a new one is there. Requests at the same time share a call of
/// the provider.
#[derive(Clone)]
pub(crate) struct Tokens {
    provider: Arc<Provider>,
    state: Arc<Mutex<State>>,
}

struct State {
    current: Option<String>,
    reason: TokenReason,
}

impl Tokens {
    pub(crate) fn new(provider: Arc<Provider>) -> Self {
        let state = State { current: None, reason: TokenReason::Login };
        Self { provider, state: Arc::new(Mutex::new(state)) }
    }

    /// The present token, or a new one; `None` if the provider ended the session.
    ///
    /// # Errors
    /// As the provider.
    pub(crate) async fn get(&self) -> Result<Option<String>, TokenError> {
        let mut state = self.state.lock().await;
        if state.current.is_none() {
            state.current = (self.provider)(state.reason).await?;
        }
        Ok(state.current.clone())
    }

    /// A new token instead of `expiring`. The present one stays until it is there.
    ///
    /// # Errors
    /// As the provider.
    pub(crate) async fn renew(&self) -> Result<Option<String>, TokenError> {
        let mut state = self.state.lock().await;
        let token = (self.provider)(TokenReason::Expiring).await?;
        if token.is_some() {
            state.current.clone_from(&token);
        }
        Ok(token)
    }

    /// The server does not accept the present one.
    pub(crate) async fn refused(&self) {
        let mut state = self.state.lock().await;
        (state.current, state.reason) = (None, TokenReason::Refused);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex as Seen;

    use super::*;

    #[tokio::test]
    async fn a_token_is_kept_until_it_is_refused_or_renewed() {
        let seen = Arc::new(Seen::new(Vec::new()));
        let reasons = Arc::clone(&seen);
        let tokens = Tokens::new(Arc::new(move |reason| {
            reasons.lock().push(reason);
            let token = format!("t{}", reasons.lock().len());
            Box::pin(async move { Ok(Some(token)) })
        }));
        assert_eq!(tokens.get().await.unwrap().as_deref(), Some("t1"));
        assert_eq!(tokens.get().await.unwrap().as_deref(), Some("t1"));
        assert_eq!(tokens.renew().await.unwrap().as_deref(), Some("t2"));
        tokens.refused().await;
        assert_eq!(tokens.get().await.unwrap().as_deref(), Some("t3"));
        assert_eq!(*seen.lock(), [TokenReason::Login, TokenReason::Expiring, TokenReason::Refused]);
    }
}
