//! TLS to an OTLP receiver.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::base::{
    crypto,
    trace::{CollectorEndpoint, CollectorProtocol, CollectorRoots},
};

/// TLS to the collector cannot be begun.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// The file cannot be read, or is no PEM.
    #[error("--tracing-ca-file {file}: {why}; expected a PEM file of certificates")]
    File { file: Box<str>, why: Box<str> },
    /// There is nothing that could be trusted.
    #[error("this system has no root certificates, so that no collector can be trusted; expected those to trust in --tracing-ca-file")]
    NoRoots,
    /// The provider is asked for a version of TLS that it does not have.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// Reads the roots. They are read anew for each connection, so that a file which is replaced counts without a restart.
pub(super) fn connector(roots: &CollectorRoots, protocol: CollectorProtocol) -> Result<TlsConnector, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        CollectorRoots::File(file) => read(file, &mut store)?,
        CollectorRoots::System => {
            // Of a system's many roots some are of no use to anybody.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let mut config = ClientConfig::builder_with_provider(Arc::clone(crypto::provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![match protocol {
        CollectorProtocol::HttpProtobuf => b"http/1.1".to_vec(),
        CollectorProtocol::Grpc => b"h2".to_vec(),
    }];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn read(file: &Path, store: &mut RootCertStore) -> Result<(), TlsError> {
    let wrong = |why: String| TlsError::File { file: file.to_string_lossy().into(), why: why.into() };
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        store.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if store.is_empty() { Err(wrong("it has no certificate".to_owned())) } else { Ok(()) }
}

/// A handshake with the collector, whose certificate must be for the host of the URL.
pub(super) async fn handshake(stream: TcpStream, endpoint: &CollectorEndpoint, roots: &CollectorRoots) -> io::Result<TlsStream<TcpStream>> {
    let connector = connector(roots, endpoint.protocol).map_err(io::Error::other)?;
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|error: InvalidDnsNameError| io::Error::other(error))?;
    connector.connect(name, stream).await
}
