//! Which servers an address may lead to.
//!
//! Whoever may create a batch chooses an address that the operator then reads. Without a bound that would open what
//! only the operator's own host can reach: its loopback, and the metadata service of the cloud.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::blocking::ClientBuilder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::{Host, Url};

use super::hosts::{self, HostPattern};

/// Which servers an address may lead to, also after redirects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Any server.
    #[default]
    Any,
    /// No server at a loopback, link-local, unspecified, broadcast or multicast address, by whatever name. Proxies of the
    /// environment are not asked, since they look names up by themselves.
    NotLocal {
        /// Only these hosts; all if there are none.
        hosts: Arc<[HostPattern]>,
    },
}

/// Why a server is not asked: the name or address that leads to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is the reader's own host or network.
    #[error("{0} is a loopback, link-local, unspecified or multicast address")]
    Local(String),
    /// It is not in the list.
    #[error("{0} is not among the hosts that are allowed")]
    Host(String),
}

impl Reach {
    /// Whether this address may be asked at all, as far as it says so by itself.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refusal> {
        let Self::NotLocal { hosts } = self else {
            return Ok(());
        };
        if let Some(host) = hosts::refused(hosts, url) {
            return Err(Refusal::Host(host));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if is_local(address) {
            return Err(Refusal::Local(address.to_string()));
        }
        Ok(())
    }

    /// Makes a client check names when it looks them up, and addresses when it is redirected.
    pub(super) fn bound(&self, client: ClientBuilder) -> ClientBuilder {
        if *self == Self::Any {
            return client;
        }
        let reach = self.clone();
        client
            .no_proxy()
            .dns_resolver(Arc::new(Resolver))
            .redirect(Policy::custom(move |attempt| match reach.check(attempt.url()) {
                Ok(()) => Policy::default().redirect(attempt),
                Err(refusal) => attempt.error(refusal),
            }))
    }
}

/// The error that says so, if a server was not asked for its address or name.
pub(super) fn refusal(error: &reqwest::Error) -> Option<&Refusal> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return Some(refusal);
        }
        cause = error.source();
    }
    None
}

/// Looks names up as usual, and refuses those with a local address: one lookup decides, so that none can differ later.
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_local(address.ip())) {
                return Err(Refusal::Local(name.as_str().to_owned()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_local_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(address) => is_local_v4(address),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || address.is_unicast_link_local()
            }
        },
    }
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    // Linux takes all of 0.0.0.0/8 for this host.
    let is_this_host = address.octets().starts_with(&[0]);
    is_this_host || address.is_loopback() || address.is_link_local() || address.is_multicast() || address.is_broadcast()
}

/// The IPv4 address that an IPv6 one leads to: mapped, or translated on the way (RFC 6052).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., high, low] = address.segments();
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    let is_translated = address
        .octets()
        .starts_with(&[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]);
    address
        .to_ipv4_mapped()
        .or_else(|| is_translated.then(|| Ipv4Addr::new(a, b, c, d)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use reqwest::blocking::Client;

    use super::*;

    #[test]
    fn local_addresses_are_told_from_others() {
        for local in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for other in [
            "10.0.0.1",
            "192.168.1.1",
            "93.184.216.34",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_local(other.parse().unwrap()), "{other}");
        }
    }

    /// What a client says that is bound by `reach` and sent to `target` by a server that it may ask.
    fn redirected(reach: &Reach, target: &str) -> reqwest::Error {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1_024]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let client = reach
            .bound(Client::builder())
            .resolve("outside.test", address)
            .build()
            .unwrap();
        let url = format!("http://outside.test:{}/", address.port());
        let error = client.get(url).send().unwrap_err();
        server.join().unwrap();
        error
    }

    #[test]
    fn redirects_lead_to_no_local_server() {
        let reach = Reach::NotLocal { hosts: [].into() };
        for target in [
            "http://127.0.0.1:9/",
            "http://localhost:9/",
            "http://[::1]:9/",
            "http://2130706433:9/",
        ] {
            let error = redirected(&reach, target);
            assert!(
                matches!(refusal(&error), Some(Refusal::Local(_))),
                "{target}: {error:?}"
            );
        }
    }

    #[test]
    fn redirects_lead_to_no_host_that_is_not_allowed() {
        let hosts = ["outside.test", "*.below.test"].map(|host| host.parse().unwrap());
        let reach = Reach::NotLocal { hosts: hosts.into() };
        for target in ["other.test", "below.test", "10.0.0.1"] {
            let error = redirected(&reach, &format!("http://{target}:9/"));
            assert_eq!(refusal(&error), Some(&Refusal::Host(target.to_owned())), "{error:?}");
        }
    }
}
