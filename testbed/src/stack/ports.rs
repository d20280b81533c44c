//! Ports that nobody uses.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use parking_lot::Mutex;

/// A free port on loopback, chosen by the kernel, and never the same one twice: whoever asked before may not have bound
/// it yet.
///
/// # Errors
/// If there is none.
pub fn free_port() -> std::io::Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if GIVEN.lock().insert(port) {
            return Ok(port);
        }
    }
}

/// `wanted` if it is free on all addresses, else any free one.
pub(super) fn this_or_free_port(wanted: u16) -> std::io::Result<u16> {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, wanted)) {
        Ok(_) => Ok(wanted),
        Err(_) => free_port(),
    }
}
