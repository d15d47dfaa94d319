//! TLS with certificates on both sides: who has the right one gets in, nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail

mod support;

use std::path::{Path, PathBuf};

use harmony_protocol::limits::MAX_MESSAGE;
use harmony_transport::{Config, Endpoint, TlsFiles, Transport, TransportError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use support::{Node, frames, pair};

struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate of this authority with the given names.
    fn issue(&self, names: &[&str]) -> TlsFiles {
        self.issue_until(names, 4000)
    }

    fn issue_until(&self, names: &[&str], year: i32) -> TlsFiles {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(1999, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (file, key_file) = (
            self.path(&format!("{}-{year}.pem", names[0])),
            self.path(&format!("{}-{year}.key", names[0])),
        );
        std::fs::write(&file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        TlsFiles {
            ca: self.path("ca.pem"),
            certificate: file,
            key: key_file,
            peer_name: None,
            allowed_clients: None,
        }
    }
}

fn with(tls: TlsFiles) -> Config {
    Config {
        tls: Some(tls),
        ..Config::default()
    }
}

/// The labels under which the dialler and the listener count the failure of a link.
async fn refusal(listener: Config, dialler: Config) -> (&'static str, &'static str) {
    let (server, mut client) = (Node::start(listener), Node::start(dialler));
    let endpoint = server.listen("tcp://127.0.0.1:0").await;
    client.dial(0, &endpoint);
    let reason = client.closed().await;
    let counters = server.counters_until(|counters| !counters.refused.is_empty()).await;
    assert_eq!((counters.opened, counters.links), (0, 0), "{counters:?}");
    (reason.label(), counters.refused.keys().next().unwrap())
}

#[tokio::test]
async fn the_right_certificates_open_a_link_and_name_the_peer() {
    let authority = Authority::new();
    let server = authority.issue(&["collector", "127.0.0.1"]);
    let client = authority.issue(&["worker-7"]);
    let (mut listening, mut dialling) = (Node::start(with(server)), Node::start(with(client)));
    let endpoint = listening.listen("tcp://127.0.0.1:0").await;
    let link = dialling.dial(0, &endpoint);
    assert_eq!(dialling.opened_by().await, (link, Some("collector".into())));
    let (accepted, peer) = listening.opened_by().await;
    assert_eq!(peer.as_deref(), Some("worker-7"));
    for size in [0, 1, 20_000, MAX_MESSAGE - "header".len()] {
        let sent = frames(&[b"header", &vec![6; size]]);
        dialling.transport.send(link, sent.clone());
        assert!(listening.message().await == sent, "{size} bytes");
        listening.transport.send(accepted, sent.clone());
        assert!(dialling.message().await == sent, "{size} bytes on the way back");
    }
    dialling.transport.close(link);
    assert_eq!(listening.closed().await.label(), "peer");
    assert_eq!(dialling.closed().await.label(), "requested");
}

#[tokio::test]
async fn a_name_can_stand_for_an_address() {
    let authority = Authority::new();
    let named = TlsFiles {
        peer_name: Some("collector".into()),
        ..authority.issue(&["worker"])
    };
    pair(with(authority.issue(&["collector"])), with(named), "tcp://127.0.0.1:0").await;
}

#[tokio::test]
async fn another_authority_is_refused_by_both_sides() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.issue(&["127.0.0.1"]);
    assert_eq!(
        refusal(with(server.clone()), with(theirs.issue(&["worker"]))).await,
        ("tls", "tls")
    );

    // A client that trusts ours but has a certificate of theirs: only the server can notice.
    let stranger = TlsFiles {
        ca: ours.path("ca.pem"),
        ..theirs.issue(&["stranger"])
    };
    assert_eq!(refusal(with(server), with(stranger)).await.1, "tls");
}

#[tokio::test]
async fn the_wrong_server_name_is_refused() {
    let authority = Authority::new();
    let (server, client) = (authority.issue(&["elsewhere"]), authority.issue(&["worker"]));
    assert_eq!(refusal(with(server), with(client)).await.0, "tls");
}

#[tokio::test]
async fn a_client_without_an_allowed_name_is_refused() {
    let authority = Authority::new();
    let allowed = Some(vec!["ventilator".to_owned(), "worker".to_owned()]);
    let server = TlsFiles {
        allowed_clients: allowed,
        ..authority.issue(&["127.0.0.1"])
    };
    assert_eq!(
        refusal(with(server.clone()), with(authority.issue(&["intruder"])))
            .await
            .1,
        "tls"
    );
    pair(with(server), with(authority.issue(&["worker"])), "tcp://127.0.0.1:0").await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let authority = Authority::new();
    let (server, client) = (authority.issue(&["127.0.0.1"]), authority.issue(&["worker"]));
    let expired_server = authority.issue_until(&["127.0.0.1"], 2001);
    assert_eq!(refusal(with(expired_server), with(client)).await.0, "tls");
    let expired_client = authority.issue_until(&["worker"], 2001);
    assert_eq!(refusal(with(server), with(expired_client)).await.1, "tls");
}

#[tokio::test]
async fn a_plain_client_is_refused_and_so_is_a_plain_server() {
    let authority = Authority::new();
    assert_eq!(
        refusal(with(authority.issue(&["127.0.0.1"])), Config::default())
            .await
            .1,
        "tls"
    );
    let (_, refused) = refusal(Config::default(), with(authority.issue(&["worker"]))).await;
    assert_eq!(refused, "violation");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    let authority = Authority::new();
    let server = Node::start(with(authority.issue(&["127.0.0.1"])));
    let Endpoint::Tcp { host, port } = server.listen("tcp://127.0.0.1:0").await else {
        panic!("not TCP")
    };
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect((host.as_str(), port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    // In TLS 1.3 the client is done before the server has looked for its certificate.
    let _open = connector.connect(ServerName::try_from(host).unwrap(), stream).await;
    let counters = server.counters_until(|counters| !counters.refused.is_empty()).await;
    assert_eq!(counters.refused["tls"], 1);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let good = authority.issue(&["a"]);
    let error = |files| Transport::start(with(files)).err().expect("it started").to_string();
    let absent = Path::new("/absent.pem").to_owned();
    assert!(
        error(TlsFiles {
            ca: absent.clone(),
            ..good.clone()
        })
        .contains("/absent.pem")
    );
    assert!(
        error(TlsFiles {
            key: absent,
            ..good.clone()
        })
        .contains("/absent.pem")
    );
    let not_pem = authority.path("not.pem");
    std::fs::write(&not_pem, "no certificate").unwrap();
    assert!(
        error(TlsFiles {
            certificate: not_pem,
            ..good.clone()
        })
        .contains("not.pem")
    );
    let other_key = TlsFiles {
        key: authority.issue(&["b"]).key,
        ..good
    };
    let mismatch = Transport::start(with(other_key)).err().expect("it started");
    assert!(matches!(mismatch, TransportError::Tls(_)), "{mismatch}");
}
