//! Sets the logs of a process up, and changes their level while it runs.

use std::fmt;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::format::Flat;
use crate::limit::{INTERVAL, Limited};
use crate::{Directives, LogArgs, LogFormat, spans};

/// The logs of this process.
struct Logs {
    format: LogFormat,
    handle: reload::Handle<EnvFilter, Registry>,
    filter: Mutex<Directives>,
}

static LOGS: OnceLock<Logs> = OnceLock::new();

/// Why the filter of this process cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterError;

impl fmt::Display for FilterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("this program has set up its logs in its own way: their level is its own business")
    }
}

impl std::error::Error for FilterError {}

/// Held for as long as a process logs: when it is dropped, the last summaries are written.
#[must_use = "what was left out is told when this is dropped"]
pub struct Telemetry(Limited);

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.0.tell(true);
        spans::flush();
    }
}

/// Sets the logs of this process up; `default` is what is written unless something else is asked for. Where another
/// subscriber is there already, that one stays.
pub fn init(args: &LogArgs, default: &str) -> Telemetry {
    let limited = Limited::default();
    let telemetry = Telemetry(limited.clone());
    let default = || default.parse().ok();
    let asked = args.log_level.clone().filter(|asked| !asked.as_str().is_empty());
    let Some(directives) = asked.or_else(default) else {
        return telemetry;
    };
    let (filter, handle) = reload::Layer::new(directives.filter());
    let format = args.format();
    let lines = match format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .fmt_fields(JsonFields::new())
            .event_format(Flat)
            .boxed(),
        LogFormat::Pretty => tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_target(false)
            .without_time()
            .boxed(),
    };
    let subscriber = tracing_subscriber::registry()
        .with(filter)
        .with(limited.clone())
        .with(lines);
    if subscriber.try_init().is_err() {
        return telemetry;
    }
    let filter = Mutex::new(directives);
    spans::start(args);
    let _ = LOGS.set(Logs { format, handle, filter });
    // Without it, what was left out is told at the end alone.
    let _ = thread::Builder::new().name("log-summary".to_owned()).spawn(move || {
        loop {
            thread::sleep(INTERVAL);
            limited.tell(false);
        }
    });
    telemetry
}

/// Which lines this process writes now.
pub fn filter() -> Result<Directives, FilterError> {
    let logs = LOGS.get().ok_or(FilterError)?;
    Ok(logs.filter.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// The flags by which a process that this one starts logs as this one does now. Not its environment, which tasks inherit.
pub fn flags() -> Vec<String> {
    let Some((logs, filter)) = LOGS.get().zip(filter().ok()) else {
        return Vec::new();
    };
    vec![
        format!("--log-level={filter}"),
        format!("--log-format={}", logs.format.name()),
    ]
}

/// From now on this process writes other lines.
pub fn set_filter(directives: Directives) -> Result<(), FilterError> {
    let logs = LOGS.get().ok_or(FilterError)?;
    let mut filter = logs.filter.lock().unwrap_or_else(PoisonError::into_inner);
    logs.handle.reload(directives.filter()).map_err(|_| FilterError)?;
    tracing::info!(was = %filter, now = %directives, "the log filter is another one");
    *filter = directives;
    Ok(())
}
