//! The flags that everything with links has.

use std::path::PathBuf;

use clap::Args;

use crate::{Config, TlsFiles};

/// How links are protected.
#[derive(Args, Clone, Debug, Default)]
pub struct LinkArgs {
    /// Allow TCP without certificates beyond loopback: whoever reaches the port can run commands here.
    #[arg(long)]
    pub insecure_tcp: bool,
    /// The authority that signed the certificates of all parties (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["tls_certificate", "tls_key"])]
    pub tls_ca: Option<PathBuf>,
    /// This party's certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    pub tls_certificate: Option<PathBuf>,
    /// This party's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    pub tls_key: Option<PathBuf>,
    /// A name that the certificate of a dialled server must have; the host of its endpoint if absent.
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    pub tls_peer_name: Option<String>,
    /// A name of which the certificate of whoever dials must have one; may be given several times. Any certificate of the
    /// authority if absent.
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    pub tls_allowed_client: Vec<String>,
}

impl LinkArgs {
    /// The settings of the transport.
    pub fn config(&self) -> Config {
        let files = (self.tls_ca.clone(), self.tls_certificate.clone(), self.tls_key.clone());
        let tls = match files {
            (Some(ca), Some(certificate), Some(key)) => Some(TlsFiles {
                ca,
                certificate,
                key,
                peer_name: self.tls_peer_name.clone(),
                allowed_clients: (!self.tls_allowed_client.is_empty()).then(|| self.tls_allowed_client.clone()),
            }),
            _ => None,
        };
        Config {
            insecure_tcp: self.insecure_tcp,
            tls,
            ..Config::default()
        }
    }
}
