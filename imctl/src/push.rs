//! `imctl push vapid-key`: a pair of keys for Web Push.

use pushservice::VapidKeyPair;
use serde::Serialize;

use crate::output::{Ending, Output};

/// What `imctl push vapid-key --json` prints.
#[derive(Debug, Serialize)]
struct Keys {
    private: String,
    public: String,
}

/// Makes a pair of keys. Needs no store and no configuration.
pub(crate) fn vapid_key(output: Output) -> anyhow::Result<Ending> {
    let pair = VapidKeyPair::generate()
        .map_err(|_| anyhow::anyhow!("the system has no random numbers: no key was made"))?;
    let keys = Keys { private: pair.private, public: pair.public.to_string() };
    output.show(&keys, |keys| {
        format!("private (push.vapid_keys): {}\npublic: {}", keys.private, keys.public)
    })?;
    Ok(Ending::Good)
}
