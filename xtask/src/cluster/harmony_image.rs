//! Harmony's own image: the programs are built here, the image's last stage by its Dockerfile.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::images::Store;
use crate::context::{Context, succeed};
use crate::shipped::as_shipped;

/// The name under which kubelet asks for `harmony:dev`.
const NAME: &str = "docker.io/library/harmony:dev";

/// The same of a version after this one, for tests of upgrades.
const NEXT: &str = "docker.io/library/harmony:next";
const NEXT_FEATURES: &str = "harmony/next,harmony-operator/next";

/// The packages whose programs are in the image, and the programs.
const PROGRAMS: [&str; 2] = ["harmony", "harmony-operator"];

/// The example of a worker of one's own: package, program, target of `e2e/images/Dockerfile`, and its image's name.
const CLOSURE: &str = "closure";
const CLOSURE_IMAGE: &str = "docker.io/library/closure:dev";

/// The authorities that https is trusted by: the image has none of its own. Where Debian and its kin keep them.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Builds the image of the programs in a folder: an archive.
pub(super) fn build(context: &Context, built: &Path) -> Result<PathBuf> {
    build_as(context, built, NAME)
}

/// Builds the programs of a version after this one, and the image of them: an archive.
pub(super) fn build_next(context: &Context, profile: &str) -> Result<PathBuf> {
    let mut build = context.cargo_locked("build");
    let machine = as_shipped(context, &mut build)?;
    build.args(["--profile", profile, "--bins", "--features", NEXT_FEATURES]);
    for package in PROGRAMS {
        build.args(["--package", package]);
    }
    succeed(&mut build)?;
    build_as(context, &folder(context, &machine, profile), NEXT)
}

fn build_as(context: &Context, built: &Path, name: &str) -> Result<PathBuf> {
    let folder = context.cache.join("cluster-tools/harmony");
    let stage = folder.join("stage");
    let _ = fs::remove_dir_all(&stage);
    let programs = stage.join("out/bin");
    fs::create_dir_all(&programs)?;
    for program in PROGRAMS {
        strip(context, program, built, &programs)?;
    }
    symlink("harmony", programs.join("kubectl-harmony"))?;
    let authorities = stage.join("out").join(AUTHORITIES);
    fs::create_dir_all(authorities.parent().context("no folder")?)?;
    fs::copy(Path::new("/").join(AUTHORITIES), authorities).context("is ca-certificates installed?")?;

    // The Dockerfile's context has nothing to offer to its last stage: an empty folder is quick to read.
    let nothing = folder.join("context");
    fs::create_dir_all(&nothing)?;
    let archive = folder.join("harmony.tar");
    let store = Store::new(&folder);
    let mut build = store.build();
    build.arg("--build-context").arg(format!("build={}", stage.display()));
    // Nothing is compiled for it, yet buildah asks which architecture that would be for.
    build.arg("--build-arg=TARGETARCH=none");
    build.arg("--file").arg(context.root.join("Dockerfile"));
    succeed(build.args(["--tag", name]).arg(&nothing))?;
    store.save(name, &archive)?;
    fs::remove_dir_all(&stage)?;
    Ok(archive)
}

/// Builds the image of the example that runs a closure: an archive.
pub(super) fn build_closure(context: &Context, built: &Path) -> Result<PathBuf> {
    let folder = context.cache.join("cluster-tools").join(CLOSURE);
    let programs = folder.join("context");
    fs::create_dir_all(&programs)?;
    strip(context, CLOSURE, built, &programs)?;
    let archive = folder.join("closure.tar");
    let store = Store::new(&folder);
    let mut build = store.build();
    build.args(["--target", CLOSURE, "--tag", CLOSURE_IMAGE]);
    build.arg("--file").arg(context.root.join("e2e/images/Dockerfile"));
    succeed(build.arg(&programs))?;
    store.save(CLOSURE_IMAGE, &archive)?;
    Ok(archive)
}

/// Builds the programs in a cargo profile (`release`, `dev`), and says in which folder they are.
pub(super) fn build_programs(context: &Context, profile: &str) -> Result<PathBuf> {
    let mut build = context.cargo_locked("build");
    let machine = as_shipped(context, &mut build)?;
    build.args(["--profile", profile, "--bins"]);
    for package in PROGRAMS.into_iter().chain([CLOSURE]) {
        build.args(["--package", package]);
    }
    succeed(&mut build)?;
    Ok(folder(context, &machine, profile))
}

/// Where cargo puts the programs of a profile.
fn folder(context: &Context, machine: &str, profile: &str) -> PathBuf {
    let folder = if profile == "dev" { "debug" } else { profile };
    context.target.join(machine).join(folder)
}

/// What debuggers read is most of a program, and nodes copy all of it.
fn strip(context: &Context, program: &str, from: &Path, to: &Path) -> Result<()> {
    let mut strip = context.command("strip");
    strip.arg("--strip-debug");
    strip.arg("-o").arg(to.join(program)).arg(from.join(program));
    succeed(&mut strip)
}
