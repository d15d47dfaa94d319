//! The flags of every program that logs.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};

use url::Url;

use crate::{BadFilter, Directives};

/// The environment variable that says which lines are written.
pub const FILTER_VARIABLE: &str = "HARMONY_LOG";
/// The environment variable that says how lines look.
pub const FORMAT_VARIABLE: &str = "HARMONY_LOG_FORMAT";

/// What is logged, how it looks, and where traces go.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct LogArgs {
    /// How log lines look [default: pretty on a terminal, else json]
    #[arg(
        long,
        global = true,
        env = FORMAT_VARIABLE,
        hide_env = true,
        value_enum,
        value_name = "FORMAT",
        help_heading = "Logs"
    )]
    pub log_format: Option<LogFormat>,
    /// Which log lines are written: a level (error, warn, info, debug, trace), or levels by module such as
    /// `info,harmony_collector=debug`; also from `HARMONY_LOG`
    #[arg(
        long,
        global = true,
        env = FILTER_VARIABLE,
        hide_env = true,
        value_name = "FILTER",
        value_parser = filter,
        help_heading = "Logs"
    )]
    pub log_level: Option<Directives>,
    /// Send spans to this OTLP receiver over HTTP, for example `http://collector:4318`; also from
    /// `HARMONY_OTLP_ENDPOINT`. Without it nothing is traced
    #[arg(
        long,
        global = true,
        env = "HARMONY_OTLP_ENDPOINT",
        hide_env = true,
        value_name = "URL",
        value_parser = receiver,
        help_heading = "Traces"
    )]
    pub otlp_endpoint: Option<Url>,
    /// The share of chunks and commits that get a span, from 0 to 1; also from `HARMONY_OTLP_RATIO` [default: 1]
    #[arg(
        long,
        global = true,
        env = "HARMONY_OTLP_RATIO",
        hide_env = true,
        value_name = "RATIO",
        value_parser = ratio,
        help_heading = "Traces"
    )]
    pub otlp_ratio: Option<f64>,
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// An object per line, for machines.
    Json,
    /// For people.
    Pretty,
}

impl LogFormat {
    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Pretty => "pretty",
        }
    }
}

/// Nothing means what a variable that is not set means.
fn filter(text: &str) -> Result<Directives, BadFilter> {
    if text.is_empty() {
        return Ok(Directives::none());
    }
    text.parse()
}

/// It is handed on by command lines and objects of pods, which many may read.
fn receiver(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    if url.username().is_empty() && url.password().is_none() {
        return Ok(url);
    }
    Err(
        "credentials do not belong into it, since command lines are no secret: give them by the variable \
         OTEL_EXPORTER_OTLP_HEADERS, such as authorization=Basic%20..., or let an OpenTelemetry collector add them"
            .to_owned(),
    )
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "it must be a number from 0 to 1".to_owned())
}

impl LogArgs {
    /// The flags by which another process traces as these say: none if nothing is to be traced.
    pub fn trace_flags(&self) -> Vec<String> {
        let Some(endpoint) = &self.otlp_endpoint else {
            return Vec::new();
        };
        let ratio = self.otlp_ratio.map(|ratio| format!("--otlp-ratio={ratio}"));
        ratio
            .into_iter()
            .chain([format!("--otlp-endpoint={endpoint}")])
            .collect()
    }

    /// The format that was asked for, or else the one that suits standard error.
    pub fn format(&self) -> LogFormat {
        self.log_format.unwrap_or_else(|| {
            if std::io::stderr().is_terminal() {
                LogFormat::Pretty
            } else {
                LogFormat::Json
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Program {
        #[command(flatten)]
        logs: LogArgs,
    }

    fn parse(argument: &str) -> Result<LogArgs, String> {
        let parsed = Program::try_parse_from(["program", argument]);
        parsed.map(|program| program.logs).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_filter_asks_for_nothing_and_a_bad_one_is_refused() {
        let asked = parse("--log-level=").unwrap().log_level.unwrap();
        assert_eq!(asked, Directives::none());
        let error = parse("--log-level=,").unwrap_err();
        assert!(error.contains("is no filter directive"), "{error}");
    }

    #[test]
    fn credentials_stay_out_of_command_lines() {
        for url in ["http://user:secret@collector:4318", "http://token@collector:4318"] {
            let error = parse(&format!("--otlp-endpoint={url}")).unwrap_err();
            assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{error}");
        }
        let flags = parse("--otlp-endpoint=http://collector:4318").unwrap().trace_flags();
        assert_eq!(flags, ["--otlp-endpoint=http://collector:4318/"]);
    }
}
