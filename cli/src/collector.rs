//! `harmony collector`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use harmony_admin::AdminArgs;
use harmony_collector::{CollectorConfig, LogLimit};
use harmony_transport::{Endpoint, LinkArgs};
use harmony_worker::parent;

use crate::exit::Exit;

/// How a collector is started.
#[derive(Args, Clone, Debug)]
pub(crate) struct CollectorArgs {
    /// The collector's name, as people see it.
    #[arg(long, default_value = "collector")]
    name: String,
    /// Where ventilators and workers reach it: `unix:/path`, or `tcp://host:port`.
    #[arg(long, value_name = "ENDPOINT")]
    listen: Endpoint,
    /// The folder of the logs; each batch has a folder of its own in it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Bytes that the log of a batch may take, or `fs` for the file system; recording pauses at nine tenths of it, as on a
    /// full disk.
    #[arg(long, value_name = "BYTES")]
    max_log_bytes: Option<LogLimit>,
    /// Commit and end when standard input closes: whoever started the collector is gone.
    #[arg(long)]
    until_stdin_closes: bool,
    #[command(flatten)]
    link: LinkArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs a collector to its end.
pub(crate) fn main(args: CollectorArgs) -> ExitCode {
    let config = CollectorConfig {
        name: args.name,
        listen: args.listen.clone(),
        dir: args.dir,
        log_limit: args.max_log_bytes,
        admin: args.admin,
        transport: args.link.config(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(harmony_collector::run(
                config,
                parent::orphaned(args.until_stdin_closes),
            ));
            runtime.shutdown_background();
            ended.map_err(|error| error.to_string())
        }
        Err(error) => Err(format!("the collector cannot start: {error}")),
    };
    if args.until_stdin_closes {
        parent::leave_folder(&args.listen);
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            Exit::Infrastructure.into()
        }
    }
}
