//! TLS on the port of clients.

mod certificate;
mod handshake;

pub(crate) use certificate::Certificate;
pub(crate) use handshake::Handshake;
