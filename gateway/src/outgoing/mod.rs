//! HTTP requests to addresses that were not given by the configuration: of webhooks and of push services.
//!
//! Whoever names such an address could have the gateway ask servers that only the gateway reaches. So addresses inside of
//! private networks are refused, unless `outgoing.allowed_networks` has them: [`networks`] says which, [`resolver`] applies
//! it to what DNS answers, [`client`] to addresses in the URL. Redirects are not followed.

mod client;
mod networks;
mod resolver;

pub(crate) use client::{Outgoing, RefusedUrl, client};
