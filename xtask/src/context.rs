//! Where the steps run, and what they may do to the machine.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};

/// What every step is given.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// What is kept from run to run, outside the checkout.
    pub(crate) cache: PathBuf,
    /// Missing tools and system packages may be installed.
    pub(crate) install: bool,
    /// A step that is skipped fails, and Cargo.lock must be up to date: this is CI.
    pub(crate) strict: bool,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// What its commands find in their environment beside their own.
    environment: Vec<(&'static str, OsString)>,
}

impl Context {
    /// Reads CI, `XDG_CACHE_HOME`, HOME, `CARGO_MANIFEST_DIR` and `CARGO_TARGET_DIR`.
    pub(crate) fn from_environment(install: bool) -> Result<Self> {
        // Cargo's word for this run: checkouts share a build folder, and so may share this program.
        let own = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&own).parent().context("xtask/ has no parent folder")?;
        let cache = cache_folder(env::var_os("XDG_CACHE_HOME").as_deref(), env::home_dir())?;
        let strict = env::var_os("CI").is_some_and(|value| value == "true");
        Ok(Self {
            root: root.to_owned(),
            target: env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache.join("target"), PathBuf::from),
            cache,
            install: install || strict,
            strict,
            environment: Vec::new(),
        })
    }

    /// The same, with one more variable for its commands.
    pub(crate) fn with(&self, name: &'static str, value: &OsStr) -> Self {
        let mut context = self.clone();
        context.environment.push((name, value.to_owned()));
        context
    }

    /// A command that runs in the checkout and reads nothing.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Cargo, building outside the checkout.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.arg(subcommand).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Cargo for a subcommand that resolves dependencies: in CI, Cargo.lock must hold them all.
    pub(crate) fn cargo_locked(&self, subcommand: &str) -> Command {
        let mut command = self.cargo(subcommand);
        if self.strict {
            command.arg("--locked");
        }
        command
    }
}

/// `harmony/` in the user's cache folder, as the XDG base directory specification has it: a relative path is ignored.
fn cache_folder(xdg: Option<&OsStr>, home: Option<PathBuf>) -> Result<PathBuf> {
    let cache = xdg.map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| home.map(|home| home.join(".cache")));
    Ok(cache
        .context("neither XDG_CACHE_HOME nor HOME says where builds may be kept: set one")?
        .join("harmony"))
}

/// Shows a command and runs it to its end.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    println!("$ {}", shown(command));
    command
        .status()
        .with_context(|| format!("{} cannot be started", shown(command)))
}

/// Shows a command and runs it; any end but success is an error.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// What a command prints to its stdout, as text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} cannot be started", shown(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be started and succeeds; what it says is not shown.
pub(crate) fn works(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The command as it is typed, program without its folder.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words: Vec<_> = std::iter::once(name).chain(command.get_args()).collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_kept_in_the_users_cache() {
        let home = || Some(PathBuf::from("/home/me"));
        let folder = |xdg: Option<&str>, home| cache_folder(xdg.map(OsStr::new), home);
        assert_eq!(folder(Some("/cache"), home()).unwrap(), Path::new("/cache/harmony"));
        assert_eq!(
            folder(Some("relative"), home()).unwrap(),
            Path::new("/home/me/.cache/harmony")
        );
        assert_eq!(folder(None, home()).unwrap(), Path::new("/home/me/.cache/harmony"));
        assert!(folder(None, None).is_err());
    }

    #[test]
    fn a_command_is_shown_as_it_is_typed() {
        assert_eq!(
            shown(Command::new("/usr/bin/cargo").args(["test", "--doc"])),
            "cargo test --doc"
        );
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let error = succeed(Command::new("false").arg("x")).unwrap_err();
        assert!(error.to_string().starts_with("false x ended with"), "{error}");
        let error = succeed(&mut Command::new("/there/is/no/such")).unwrap_err();
        assert_eq!(error.to_string(), "such cannot be started");
    }
}
