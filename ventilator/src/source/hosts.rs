//! An allow-list of hosts that tasks may be read from.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::{Host, Url};

/// Starts a pattern that means all names below a domain.
const BELOW: &str = "*.";

/// A host that tasks may be read from: a name, an address, or `*.` and a domain for all names below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    below: bool,
    host: Host,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a host: write a name or an address without scheme, port and path, or *.DOMAIN for all names below one"
)]
pub struct InvalidHost(String);

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.to_owned());
        let below = text.strip_prefix(BELOW);
        let host = Host::parse(below.unwrap_or(text)).map_err(|_| invalid())?;
        let is_name = matches!(&host, Host::Domain(name) if !name.contains('*'));
        if below.is_some() && !is_name || text.contains('*') && below.is_none() {
            return Err(invalid());
        }
        Ok(Self {
            below: below.is_some(),
            host,
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { BELOW } else { "" }, self.host)
    }
}

impl HostPattern {
    fn allows(&self, host: &Host<&str>) -> bool {
        match (&self.host, host) {
            (Host::Domain(domain), Host::Domain(name)) if self.below => name
                .strip_suffix(domain.as_str())
                .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
            (own, host) => own.to_string() == host.to_string(),
        }
    }
}

/// The host of this address, if it is not among the patterns. No patterns allow every host.
pub(super) fn refused(patterns: &[HostPattern], url: &Url) -> Option<String> {
    let Some(host) = url.host() else {
        return Some(url.scheme().to_owned());
    };
    let allowed = patterns.is_empty() || patterns.iter().any(|pattern| pattern.allows(&host));
    (!allowed).then(|| host.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(patterns: &[&str], url: &str) -> bool {
        let patterns: Vec<HostPattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        refused(&patterns, &url.parse().unwrap()).is_none()
    }

    #[test]
    fn no_pattern_allows_all_hosts() {
        assert!(is_allowed(&[], "https://anywhere.example/lines"));
    }

    #[test]
    fn a_name_is_itself_alone_in_any_case_and_at_any_port() {
        let only = ["data.example.org"];
        for url in [
            "https://data.example.org/a",
            "http://DATA.example.org:8080/",
            "https://u:p@data.example.org/",
        ] {
            assert!(is_allowed(&only, url), "{url}");
        }
        for url in [
            "https://example.org/",
            "https://x.data.example.org/",
            "https://data.example.org.evil.example/",
            "https://data.example.org@evil.example/",
            "https://evildata.example.org/",
        ] {
            assert!(!is_allowed(&only, url), "{url}");
        }
    }

    #[test]
    fn a_star_is_every_name_below_and_not_the_domain_itself() {
        let below = ["*.example.org"];
        assert!(is_allowed(&below, "https://a.example.org/") && is_allowed(&below, "https://a.b.example.org/"));
        for url in [
            "https://example.org/",
            "https://evilexample.org/",
            "https://.example.org/",
        ] {
            assert!(!is_allowed(&below, url), "{url}");
        }
    }

    #[test]
    fn addresses_are_compared_however_they_are_written() {
        assert!(is_allowed(&["10.0.0.1"], "http://167772161/"));
        assert!(is_allowed(&["[fd00::1]"], "http://[fd00:0::1]/"));
        assert!(!is_allowed(&["10.0.0.1"], "http://10.0.0.2/"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "https://a.example",
            "a.example/path",
            "a:80",
            "*",
            "*.",
            "a.*.example",
            "*.10.0.0.1",
            "a b",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
        assert_eq!(
            "*.Example.org".parse::<HostPattern>().unwrap().to_string(),
            "*.example.org"
        );
    }
}
