//! Ports that nobody uses.

use std::net::{Ipv4Addr, TcpListener};

/// A free port on loopback, chosen by the kernel.
///
/// # Errors
/// If there is none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// `wanted` if it is free on all addresses, else any free one.
pub(super) fn this_or_free_port(wanted: u16) -> std::io::Result<u16> {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, wanted)) {
        Ok(_) => Ok(wanted),
        Err(_) => free_port(),
    }
}
