//! The flags of every program that logs.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};

use crate::Directives;

/// The environment variable that says which lines are written.
pub const FILTER_VARIABLE: &str = "HARMONY_LOG";
/// The environment variable that says how lines look.
pub const FORMAT_VARIABLE: &str = "HARMONY_LOG_FORMAT";

/// What is logged, and how it looks.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
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
        help_heading = "Logs"
    )]
    pub log_level: Option<Directives>,
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

impl LogArgs {
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
