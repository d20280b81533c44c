//! `imctl user token`: a token as the call of the operator issues it.

use std::path::Path;

use gateway::config::Config;
use serde::Serialize;
use shared::ids::UserId;

use crate::context::gateway_file;
use crate::output::{Ending, Output};

/// What `imctl user token --json` prints.
#[derive(Debug, Serialize)]
struct Token {
    user_id: String,
    token: String,
    expires_at_ms: i64,
}

/// Issues a token for the user. Needs no store and no running gateway, only the configuration of one.
pub(crate) fn run(
    gateway: Option<&Path>,
    id: &str,
    ttl_s: Option<u64>,
    output: Output,
) -> anyhow::Result<Ending> {
    let user = UserId::parse(id)?;
    let config = Config::load(gateway_file(gateway).as_deref())?;
    shared::tls::init();
    let (token, expires_at_ms) = gateway::mint(&config.auth, &user, ttl_s).map_err(anyhow::Error::msg)?;
    let token = Token { user_id: user.as_str().to_owned(), token, expires_at_ms };
    output.show(&token, |token| token.token.clone())?;
    Ok(Ending::Good)
}
