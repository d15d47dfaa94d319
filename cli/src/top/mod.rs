//! `harmony top`: a terminal page over all batches, and over one of them.

mod feed;
mod page;
mod screen;
mod terminal;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Instant;

use clap::Args;
use k8s_openapi::jiff::Timestamp;

use self::feed::Feed;
use self::page::Page;
use crate::batch_ref::BatchRef;
use crate::cluster::KubeArgs;
use crate::exit::{Exit, Failure, tell};
use crate::explain::DoorArgs;

/// Characters in a line of a page that is printed.
const COLUMNS: usize = 100;

/// Arguments of `harmony top`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TopArgs {
    /// The batch: its name on the cluster, or its folder, with a slash [default: all batches of the namespace]
    #[arg(value_name = "BATCH")]
    batch: Option<BatchRef>,
    /// Print one page and end, as it does where standard output is no terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    door: DoorArgs,
    #[command(flatten)]
    kube: KubeArgs,
}

/// Shows the page until somebody has seen enough.
pub(crate) fn main(args: &TopArgs) -> Exit {
    let shown = if args.once || !io::stdout().is_terminal() {
        once(args)
    } else {
        terminal::run(args)
    };
    match shown {
        Ok(()) => Exit::Succeeded,
        Err(failure) => {
            tell(failure.message.trim_end());
            failure.exit
        }
    }
}

fn once(args: &TopArgs) -> Result<(), Failure> {
    let mut feed = Feed::new(args)?;
    let mut page = Page::new(feed.opened());
    page.take(Instant::now(), feed.look(page.open())?);
    let lines = screen::lines(&page, COLUMNS, Timestamp::now());
    let text: Vec<String> = lines
        .iter()
        .map(|line| line.to_string().trim_end().to_owned())
        .collect();
    match writeln!(io::stdout().lock(), "{}", text.join("\n").trim_end()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::infrastructure(format!(
            "the output cannot be written: {error}"
        ))),
        _ => Ok(()),
    }
}
