//! TLS on the server's sockets: certificates from PEM text, mutual TLS, and the handshake with its limits.
//!
//! Sources: RFC 8446 (TLS 1.3), RFC 7301 (ALPN), RFC 7468 (PEM).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Core;
use super::peeked::Peeked;
use crate::{Code, Error, Result};

/// Longest time for a handshake, unless `send_timeout` is shorter.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The content type of a TLS record that begins a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// Who the server says it is, and whether clients have to say it too.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The server's certificate and those between it and its root, in PEM.
    certificate: String,
    /// Its private key in PEM: PKCS #8, PKCS #1 or SEC 1.
    key: String,
    /// The certificates, in PEM, of the authorities that clients' certificates must come from; empty: none is asked for.
    #[serde(default)]
    client_ca: String,
    #[serde(default)]
    client_verify: ClientVerify,
    /// Whether the REST port speaks TLS too; gRPC over TCP always does.
    #[serde(default = "yes")]
    rest: bool,
    /// Whether the Unix socket speaks TLS too.
    #[serde(default)]
    grpc_socket: bool,
}

/// Whether a client may come without a certificate. One that it shows must be right in either case.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ClientVerify {
    #[default]
    Required,
    Optional,
}

fn yes() -> bool {
    true
}

/// Without the private key: settings end up in logs.
impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings").field("client_verify", &self.client_verify).finish_non_exhaustive()
    }
}

/// Which socket a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Rest,
    Grpc,
    GrpcSocket,
}

/// What new connections are secured with; empty where the server speaks in plain text.
#[derive(Default)]
pub(super) struct Tls(ArcSwapOption<Acceptors>);

/// An acceptor for each socket; they differ in the protocols that they offer.
struct Acceptors {
    rest: Option<TlsAcceptor>,
    grpc: TlsAcceptor,
    grpc_socket: Option<TlsAcceptor>,
}

impl Tls {
    /// Takes new certificates for the handshakes from now on; open connections keep theirs.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when a certificate or the key cannot be read, or do not belong together; the old ones stay.
    pub(super) fn set(&self, settings: &TlsSettings) -> Result<()> {
        let http: &[&[u8]] = &[b"h2", b"http/1.1"];
        let rest = settings.rest.then(|| acceptor(settings, http)).transpose()?;
        let grpc = acceptor(settings, &http[..1])?;
        let grpc_socket = settings.grpc_socket.then(|| grpc.clone());
        self.0.store(Some(Arc::new(Acceptors { rest, grpc, grpc_socket })));
        Ok(())
    }

    /// What secures a connection to `port`; `None` where that speaks in plain text.
    pub(super) fn acceptor(&self, port: Port) -> Option<TlsAcceptor> {
        let acceptors = self.0.load();
        let acceptors = acceptors.as_ref()?;
        match port {
            Port::Rest => acceptors.rest.clone(),
            Port::Grpc => Some(acceptors.grpc.clone()),
            Port::GrpcSocket => acceptors.grpc_socket.clone(),
        }
    }
}

fn acceptor(settings: &TlsSettings, protocols: &[&[u8]]) -> Result<TlsAcceptor> {
    let wrong = |error: rustls::Error| refused(format!("The TLS certificate and key cannot be used: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from_pem_slice(settings.key.as_bytes())
        .map_err(|error| refused(format!("The TLS key is no private key in PEM: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_client_cert_verifier(verifier(settings, provider)?)
        .with_single_cert(certificates(&settings.certificate, "TLS certificate")?, key)
        .map_err(wrong)?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn verifier(
    settings: &TlsSettings,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    if settings.client_ca.is_empty() {
        return Ok(Arc::new(NoClientAuth));
    }
    let wrong =
        |error: &dyn fmt::Display| refused(format!("The certificate of the clients' CA cannot be used: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&settings.client_ca, "certificate of the clients' CA")? {
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    match settings.client_verify {
        ClientVerify::Required => builder.build(),
        ClientVerify::Optional => builder.allow_unauthenticated().build(),
    }
    .map_err(|error| wrong(&error))
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| refused(format!("The {what} is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(refused(format!("There is no certificate in the PEM of the {what}")));
    }
    Ok(found)
}

fn refused(message: String) -> Error {
    Error::invalid(message).with_reason("tls")
}

/// What the first bytes of a connection led to.
pub(super) enum Opened<S> {
    Secure(Box<Peeked<TlsStream<Peeked<S>>>>),
    /// The client speaks in plain text. The stream is there to tell it so.
    Plain(Peeked<S>),
}

/// Brings TLS up; `None` where the client fails at it, takes too long, goes, or the server stops meanwhile.
pub(super) async fn open<S>(
    core: &Core,
    acceptor: TlsAcceptor,
    stream: S,
    stop: &watch::Receiver<bool>,
) -> Option<Opened<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stop = stop.clone();
    let limit = core.settings.send_timeout().map_or(HANDSHAKE, |limit| limit.min(HANDSHAKE));
    let opened = tokio::select! {
        biased;
        opened = shake_hands(acceptor, stream) => opened,
        () = tokio::time::sleep(limit) => Err(std::io::ErrorKind::TimedOut.into()),
        _ = stop.wait_for(|stop| *stop) => return None,
    };
    if opened.is_err() {
        core.metrics.refused("tls_handshake");
    }
    opened.ok()
}

async fn shake_hands<S>(acceptor: TlsAcceptor, stream: S) -> std::io::Result<Opened<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = Peeked::new(stream);
    match stream.peek(1).await?.first() {
        None => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Some(&HANDSHAKE_RECORD) => {
            let stream = acceptor.accept(stream).await?;
            Ok(Opened::Secure(Box::new(Peeked::new(stream))))
        }
        Some(_) => Ok(Opened::Plain(stream)),
    }
}

/// The error of a server that is to take certificates and speaks in plain text.
pub(super) fn is_off() -> Error {
    Error::new(Code::FailedPrecondition, "The server was started without TLS").with_reason("tls")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(certificate: &str, key: &str) -> TlsSettings {
        let json = serde_json::json!({"certificate": certificate, "key": key});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_no_pem_is_refused_in_words() {
        let error = Tls::default().set(&settings("x", "y")).unwrap_err();
        assert!(error.message.contains("no private key in PEM"), "{error}");
    }

    #[test]
    fn the_key_never_shows() {
        assert!(!format!("{:?}", settings("open", "secret")).contains("secret"));
    }

    #[test]
    fn without_certificates_every_port_speaks_in_plain_text() {
        for port in [Port::Rest, Port::Grpc, Port::GrpcSocket] {
            assert!(Tls::default().acceptor(port).is_none(), "{port:?}");
        }
    }
}
