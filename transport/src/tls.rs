//! TLS 1.3 with certificates on both sides.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use webpki::EndEntityCert;

use crate::config::TlsFiles;
use crate::error::{CloseReason, TransportError};

/// The two sides of TLS, ready for use.
pub(crate) struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    peer_name: Option<String>,
    allowed_clients: Option<Vec<ServerName<'static>>>,
}

impl Tls {
    /// Reads the files. Fails if one cannot be read or they do not fit together.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TransportError> {
        let roots = Arc::new(read_roots(&files.ca)?);
        let chain = read_certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|cause| wrong(&files.key, cause))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mismatch = |cause: rustls::Error| TransportError::Tls(cause.to_string());

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(mismatch)?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|cause| wrong(&files.ca, cause))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(mismatch)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(mismatch)?;
        // A resumed session would not look at the certificate again, and an expired one would go on.
        client.resumption = Resumption::disabled();
        server.send_tls13_tickets = 0;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            peer_name: files.peer_name.clone(),
            allowed_clients: files
                .allowed_clients
                .as_ref()
                .map(|names| names.iter().map(|name| parse_name(name)).collect())
                .transpose()?,
        })
    }

    /// The client's side; returns the first name in the server's certificate.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<(TlsStream<TcpStream>, Option<String>), CloseReason> {
        let name = self.peer_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| CloseReason::Tls(format!("`{name}` cannot be the name in a certificate")))?;
        let stream = TlsStream::from(self.connector.connect(name, stream).await?);
        let peer = with_certificate(&stream, first_name)?;
        Ok((stream, peer))
    }

    /// The server's side; returns the first name in the client's certificate.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Option<String>), CloseReason> {
        let stream = TlsStream::from(self.acceptor.accept(stream).await?);
        let peer = with_certificate(&stream, first_name)?;
        if let Some(allowed) = &self.allowed_clients {
            let has_name = |certificate: &EndEntityCert<'_>| {
                allowed
                    .iter()
                    .any(|name| certificate.verify_is_valid_for_subject_name(name).is_ok())
            };
            if !with_certificate(&stream, has_name)? {
                let name = peer.unwrap_or_default();
                return Err(CloseReason::Tls(format!(
                    "the client's certificate (`{name}`) has no allowed name"
                )));
            }
        }
        Ok((stream, peer))
    }
}

fn with_certificate<T>(
    stream: &TlsStream<TcpStream>,
    look: impl FnOnce(&EndEntityCert<'_>) -> T,
) -> Result<T, CloseReason> {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.ok_or_else(|| CloseReason::Tls("the peer showed no certificate".to_owned()))?;
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| CloseReason::Tls(error.to_string()))?;
    Ok(look(&certificate))
}

fn first_name(certificate: &EndEntityCert<'_>) -> Option<String> {
    certificate
        .valid_dns_names()
        .next()
        .or_else(|| certificate.valid_uri_names().next())
        .map(str::to_owned)
}

fn read_roots(path: &Path) -> Result<RootCertStore, TransportError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|cause| wrong(path, cause))?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| wrong(path, cause))?;
    if certificates.is_empty() {
        return Err(wrong(path, "it holds no certificate in PEM"));
    }
    Ok(certificates)
}

fn parse_name(name: &str) -> Result<ServerName<'static>, TransportError> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        TransportError::Tls(format!(
            "`{name}` in the allowed clients cannot be the name in a certificate"
        ))
    })
}

fn wrong(path: &Path, cause: impl std::fmt::Display) -> TransportError {
    TransportError::TlsFile {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}
