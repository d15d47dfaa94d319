//! Who is who: the CA, the API server's certificate, the key of service accounts, and a token for each user.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rcgen::{KeyUsagePurpose, SanType};
use uuid::Uuid;

use super::layout::{Layout, SERVICE_ADDRESS};

/// The names by which pods call the API server.
const SERVER_NAMES: [&str; 4] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Components and nodes that have a kubeconfig: what it is called, the user and the user's group.
const USERS: [(&str, &str, &str); 7] = [
    ("admin", "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("proxy", "system:kube-proxy", "system:node-proxier"),
    ("dns", "system:coredns", "system:masters"),
    ("node-0", "system:node:node-0", "system:nodes"),
    ("node-1", "system:node:node-1", "system:nodes"),
];

/// Writes all of it, and a kubeconfig for each user.
pub(super) fn write(layout: &Layout) -> Result<()> {
    let secrets = layout.secrets();
    fs::create_dir_all(&secrets)?;
    fs::set_permissions(&secrets, Permissions::from_mode(0o700))?;
    certificates(layout, &secrets)?;
    let accounts = KeyPair::generate()?;
    fs::write(secrets.join("accounts.key"), accounts.serialize_pem())?;
    fs::write(secrets.join("accounts.pub"), accounts.public_key_pem())?;
    users(layout)
}

/// A CA and a certificate signed by it. A certificate that is its own CA would not do: rustls refuses it.
fn certificates(layout: &Layout, secrets: &Path) -> Result<()> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, layout.name());
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    fs::write(secrets.join("ca.crt"), ca.self_signed(&ca_key)?.pem())?;

    let mut server = CertificateParams::new(SERVER_NAMES.map(String::from))?;
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for address in [layout.first().address, SERVICE_ADDRESS, [127, 0, 0, 1]] {
        server.subject_alt_names.push(SanType::IpAddress(IpAddr::from(address)));
    }
    let server_key = KeyPair::generate()?;
    let certificate = server.signed_by(&server_key, &Issuer::new(ca, ca_key))?;
    fs::write(secrets.join("server.crt"), certificate.pem())?;
    fs::write(secrets.join("server.key"), server_key.serialize_pem())?;
    Ok(())
}

fn users(layout: &Layout) -> Result<()> {
    let mut tokens = String::new();
    for (name, user, group) in USERS {
        let token = Uuid::new_v4();
        writeln!(tokens, "{token},{user},{name},{group:?}")?;
        let file = match name {
            "admin" => layout.kubeconfig(),
            name => layout.kubeconfig_of(name),
        };
        fs::write(&file, kubeconfig(layout, user, token))?;
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    }
    Ok(fs::write(layout.secrets().join("tokens.csv"), tokens)?)
}

fn kubeconfig(layout: &Layout, user: &str, token: Uuid) -> String {
    let (name, server, ca) = (layout.name(), layout.server(), layout.secrets().join("ca.crt"));
    let ca = ca.display();
    format!(
        r#"apiVersion: v1
kind: Config
clusters:
  - name: {name}
    cluster: {{server: "{server}", certificate-authority: "{ca}"}}
users:
  - name: "{user}"
    user: {{token: "{token}"}}
contexts:
  - name: {name}
    context: {{cluster: {name}, user: "{user}"}}
current-context: {name}
"#
    )
}
