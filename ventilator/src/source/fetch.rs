//! Tasks behind an http or https address.

use std::error::Error;
use std::io::{self, Read};
use std::thread;

use reqwest::blocking::{Client, Response};
use url::Url;

use super::reach::{self, Refusal};
use super::{SourceConfig, SourceError};

/// Asks for `url`, following redirects, and returns the body. An answer shorter than announced ends in an error.
pub(super) fn fetch(url: &Url, config: &SourceConfig) -> Result<impl Read + Send + use<>, SourceError> {
    // A blocking client must not live on a thread of an async runtime, and the caller's may be one.
    let asked = thread::scope(|scope| scope.spawn(|| ask(url, config)).join());
    let response = asked.unwrap_or_else(|_| Err(unreadable(url, "the HTTP client broke off".to_owned())))?;
    Ok(Body { response })
}

/// The address as messages and notes may show it.
pub(super) fn without_password(url: &Url) -> String {
    let mut shown = url.clone();
    // An address without a host cannot carry a password.
    let _ = shown.set_password(None);
    shown.into()
}

fn ask(url: &Url, config: &SourceConfig) -> Result<Response, SourceError> {
    let SourceConfig { patience, reach, .. } = config;
    let patience = *patience;
    reach.check(url).map_err(|refusal| refused(url, &refusal))?;
    let failed = |error: reqwest::Error| {
        if let Some(refusal) = reach::refusal(&error) {
            return refused(url, refusal);
        }
        if error.is_timeout() {
            return SourceError::Late {
                url: without_password(url),
                patience,
            };
        }
        unreadable(url, causes(&error.without_url()))
    };
    let agent = concat!("harmony/", env!("CARGO_PKG_VERSION"));
    let client = Client::builder()
        .user_agent(agent)
        .connect_timeout(patience)
        .timeout(patience);
    let response = reach
        .bound(client)
        .build()
        .and_then(|client| client.get(url.clone()).send())
        .map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(SourceError::Status {
            url: without_password(response.url()),
            status: response.status().to_string(),
        });
    }
    // Who says so beforehand need not be read in vain.
    match response.content_length() {
        Some(length) if length > config.max_spool_bytes => Err(SourceError::TooLarge {
            origin: without_password(url),
            limit: config.max_spool_bytes,
        }),
        _ => Ok(response),
    }
}

fn refused(url: &Url, refusal: &Refusal) -> SourceError {
    let (url, reason) = (without_password(url), refusal.to_string());
    match refusal {
        Refusal::Local(_) => SourceError::Local { url, reason },
        Refusal::Host(_) => SourceError::HostNotAllowed { url, reason },
    }
}

fn unreadable(url: &Url, reason: String) -> SourceError {
    SourceError::Fetch {
        url: without_password(url),
        reason,
    }
}

/// The error and what caused it, outermost first. Only the innermost says which name, port or certificate is meant.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

struct Body {
    response: Response,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.response
            .read(buffer)
            .map_err(|error| io::Error::new(error.kind(), causes(&error)))
    }
}
