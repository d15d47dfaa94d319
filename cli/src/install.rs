//! `harmony install`: puts this program into a folder, so that the containers of a pod share it whatever their images hold.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use clap::Args;

use crate::exit::Exit;

/// The name that the program has there.
const NAME: &str = "harmony";
/// Everybody may run it, nobody may change it: users differ from container to container.
const MODE: u32 = 0o555;

/// Where the program is to be put.
#[derive(Args, Clone, Debug)]
pub(crate) struct InstallArgs {
    /// The folder; one that is there already is used.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Puts it there.
pub(crate) fn main(args: &InstallArgs) -> ExitCode {
    match install(&args.dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{NAME} cannot be installed into {}: {error}", args.dir.display());
            Exit::Infrastructure.into()
        }
    }
}

/// It gets its name when it is whole. One that is there already is replaced, also while it runs.
fn install(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let part = dir.join(format!(".{NAME}.{}", process::id()));
    let placed = copy(&part).and_then(|()| fs::rename(&part, dir.join(NAME)));
    placed.inspect_err(|_| drop(fs::remove_file(&part)))
}

fn copy(to: &Path) -> io::Result<()> {
    let mut target = File::create(to)?;
    io::copy(&mut File::open("/proc/self/exe")?, &mut target)?;
    // Not by the mode at its making, since a umask would take from that.
    target.set_permissions(Permissions::from_mode(MODE))
}
