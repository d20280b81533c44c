//! The PROXY protocol, versions 1 and 2: a TCP load balancer begins each connection with the address of its client.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The fixed part of a header of version 2, which ends with the length of the rest.
const FIXED_BYTES: usize = 16;
/// Longest rest of a header of version 2: addresses, and what a load balancer adds about TLS and the network.
const REST_BYTES_MAX: usize = 4_096;
/// Longest header of version 1, by the specification.
const LINE_BYTES_MAX: usize = 107;
/// No header is shorter: `PROXY UNKNOWN` and the end of its line.
const SHORTEST_BYTES: usize = 15;

/// Reads a header, and nothing after it. Returns the address of the client; `None` for a connection of the load balancer
/// itself, such as a health check.
///
/// # Errors
/// The connection begins with something else, or ends before.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<SocketAddr>, Error> {
    let mut header = vec![0; SHORTEST_BYTES];
    stream.read_exact(&mut header).await?;
    if header.starts_with(v2::PROTOCOL_PREFIX) {
        return read_v2(stream, header).await;
    }
    if !header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        return Err(malformed("no header"));
    }
    while !header.ends_with(b"\n") {
        if header.len() == LINE_BYTES_MAX {
            return Err(malformed("a line that is too long"));
        }
        header.push(stream.read_u8().await?);
    }
    match v1::Header::try_from(header.as_slice()).map_err(malformed)?.addresses {
        v1::Addresses::Tcp4(both) => Ok(Some((both.source_address, both.source_port).into())),
        v1::Addresses::Tcp6(both) => Ok(Some((both.source_address, both.source_port).into())),
        v1::Addresses::Unknown => Ok(None),
    }
}

async fn read_v2<S: AsyncRead + Unpin>(
    stream: &mut S,
    mut header: Vec<u8>,
) -> Result<Option<SocketAddr>, Error> {
    header.push(stream.read_u8().await?);
    let rest = usize::from(u16::from_be_bytes([header[FIXED_BYTES - 2], header[FIXED_BYTES - 1]]));
    if rest > REST_BYTES_MAX {
        return Err(malformed("a header that is too long"));
    }
    header.resize(FIXED_BYTES + rest, 0);
    stream.read_exact(&mut header[FIXED_BYTES..]).await?;
    let header = v2::Header::try_from(header.as_slice()).map_err(malformed)?;
    match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(both)) => {
            Ok(Some((both.source_address, both.source_port).into()))
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(both)) => {
            Ok(Some((both.source_address, both.source_port).into()))
        }
        _ => Ok(None),
    }
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("PROXY protocol: {why}"))
}

#[cfg(test)]
mod tests {
    use ppp::v2::{Builder, Command, Protocol, Version};

    use super::*;

    /// What is read from `bytes`, and what is left of them.
    async fn read_from(bytes: &[u8]) -> (Result<Option<SocketAddr>, String>, Vec<u8>) {
        let mut stream = bytes;
        let read = read(&mut stream).await.map_err(|error| error.to_string());
        (read, stream.to_vec())
    }

    fn v2(command: Command, source: &str) -> Vec<u8> {
        let both: (SocketAddr, SocketAddr) = (source.parse().unwrap(), source.parse().unwrap());
        Builder::with_addresses(Version::Two | command, Protocol::Stream, both).build().unwrap()
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_nothing_after_the_header_is_read() {
        let client = |text: &str| Ok::<Option<SocketAddr>, String>(Some(text.parse().unwrap()));
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 8080\r\n".to_vec(), client("192.0.2.7:5000")),
            (b"PROXY TCP6 2001:db8::7 ::1 5000 8080\r\n".to_vec(), client("[2001:db8::7]:5000")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(None)),
            (v2(Command::Proxy, "192.0.2.7:5000"), client("192.0.2.7:5000")),
            (v2(Command::Proxy, "[2001:db8::7]:5000"), client("[2001:db8::7]:5000")),
            (v2(Command::Local, "192.0.2.7:5000"), Ok(None)),
        ] {
            let bytes = [header.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(read_from(&bytes).await, (expected, b"GET / HTTP/1.1\r\n".to_vec()));
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let mut long = v2(Command::Proxy, "192.0.2.7:5000");
        long[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        let endless = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
        for bytes in [
            b"GET /healthz HTTP/1.1\r\n\r\n".as_slice(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 5000\r\n",
            b"PROXY TCP9 192.0.2.7 10.0.0.1 5000 8080\r\n",
            endless.as_bytes(),
            &long,
        ] {
            assert!(read_from(bytes).await.0.unwrap_err().contains("PROXY protocol"), "{bytes:?}");
        }
        let whole = v2(Command::Proxy, "192.0.2.7:5000");
        for length in 0..whole.len() {
            assert!(read_from(&whole[..length]).await.0.is_err(), "{length} bytes");
        }
    }
}
