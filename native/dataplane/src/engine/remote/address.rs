//! Where another server listens.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::{Error, Result};

/// An address as a URL: `unix:/run/servable.sock` or `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// `host:port`; an IPv6 address stands in brackets.
    Tcp(String),
}

/// A connected socket of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A machine that went away without a word is noticed after about so long.
const KEEPALIVE: Duration = Duration::from_secs(10);

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for another scheme, a relative path, or a host without a port.
    pub fn parse(url: &str) -> Result<Address> {
        if let Some(path) = url.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Address::Unix(path.into()));
        }
        let authority = url.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        match authority.and_then(|authority| authority.parse::<http::uri::Authority>().ok()) {
            Some(authority) if authority.port_u16().is_some() && !authority.as_str().contains('@') => {
                Ok(Address::Tcp(authority.as_str().to_owned()))
            }
            _ => Err(Error::invalid(format!(
                "'{url}' is no address of a replica: write unix:/path/of/socket or http://host:port"
            ))),
        }
    }

    /// What stands in `:authority`.
    pub(super) fn authority(&self) -> &str {
        match self {
            // As grpc clients have it where there is no host.
            Address::Unix(_) => "localhost",
            Address::Tcp(authority) => authority,
        }
    }

    pub(super) async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp(authority) => {
                let stream = TcpStream::connect(authority.as_str()).await?;
                stream.set_nodelay(true)?;
                let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(authority) => write!(f, "http://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls() {
        assert_eq!(Address::parse("unix:/run/a.sock").unwrap(), Address::Unix("/run/a.sock".into()));
        assert_eq!(Address::parse("http://[::1]:85/").unwrap(), Address::Tcp("[::1]:85".to_owned()));
        assert_eq!(Address::parse("http://node-1:8500").unwrap().to_string(), "http://node-1:8500");
        for wrong in ["", "unix:a.sock", "http://node", "http://a@node:1", "https://node:1", "node:1", "http://n:1/x"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
