//! TLS without a proxy: the certificate that browsers are shown, replaced while the hub runs.

use std::{fmt, io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use thiserror::Error;

use crate::config::Tls;

/// Why there is no certificate to show.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("server.tls: cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: rustls::pki_types::pem::Error },
    #[error("server.tls: {} holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("server.tls: the key does not fit the certificate: {0}")]
    Misfit(rustls::Error),
}

/// What is shown to the next browser.
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    pub fn read(tls: &Tls) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::new(read(tls)?))))
    }

    /// Shows what the files hold now. Those who are connected stay; a mistake changes nothing.
    pub fn replace(&self, tls: &Tls) -> Result<(), TlsError> {
        self.0.store(read(tls)?);
        Ok(())
    }

    /// For the listeners: TLS 1.2 and 1.3. Clients choose between HTTP/2 and 1.1 (RFC 7301); who names neither speaks 1.1.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

fn read(tls: &Tls) -> Result<Arc<CertifiedKey>, TlsError> {
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |error| TlsError::Read { path, error }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&tls.cert).map_err(failed(&tls.cert))?.collect();
    let chain = chain.map_err(failed(&tls.cert))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(tls.cert.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(failed(&tls.key))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map(Arc::new).map_err(TlsError::Misfit)
}

impl From<rustls::Error> for super::HubError {
    fn from(error: rustls::Error) -> Self {
        Self::Server(io::Error::other(error))
    }
}
