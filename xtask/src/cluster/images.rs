//! Images without a registry: built here, and handed to each node. First the small ones that tests run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::layout::Layout;
use crate::context::{Context, succeed};

/// Images that tests run: a target of `e2e/images/Dockerfile` and the name under which kubelet asks for it.
const SMALL: [(&str, &str); 5] = [
    ("pause", "localhost/pause:1"),
    ("shell", "docker.io/library/shell:dev"),
    ("named", "docker.io/library/named:dev"),
    ("numeric", "docker.io/library/numeric:dev"),
    ("bare", "docker.io/library/bare:dev"),
];

/// The static shell that the small images are made of, from Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// Builds the images that tests run, unless they are there: one archive each.
pub(super) fn build_small(context: &Context) -> Result<Vec<PathBuf>> {
    let recipe = context.root.join("e2e/images/Dockerfile");
    let text = fs::read_to_string(&recipe).with_context(|| format!("{} cannot be read", recipe.display()))?;
    let folder = context.cache.join("cluster-tools/images");
    let archives: Vec<_> = SMALL
        .iter()
        .map(|(target, _)| folder.join(format!("{target}.tar")))
        .collect();
    let stamp = folder.join("Dockerfile");
    if fs::read_to_string(&stamp).is_ok_and(|built| built == text) && archives.iter().all(|file| file.is_file()) {
        return Ok(archives);
    }
    let parts = folder.join("parts");
    fs::create_dir_all(&parts)?;
    fs::copy(BUSYBOX, parts.join("busybox")).context("busybox cannot be copied: is busybox-static installed?")?;
    let store = Store::new(&folder);
    for ((target, name), archive) in SMALL.iter().zip(&archives) {
        let mut build = store.build();
        build
            .args(["--target", target, "--file"])
            .arg(&recipe)
            .args(["--tag", name])
            .arg(&parts);
        succeed(&mut build)?;
        store.save(name, archive)?;
    }
    fs::remove_dir_all(&parts)?;
    fs::write(&stamp, text)?;
    Ok(archives)
}

/// Hands images to every node of a cluster.
pub(super) fn load(layout: &Layout, archives: &[PathBuf]) -> Result<()> {
    for node in &layout.nodes {
        for archive in archives {
            let mut import = Command::new("ctr");
            import.arg("--address").arg(node.socket());
            import.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
            succeed(&mut import)?;
        }
    }
    Ok(())
}

/// A store of layers for one build. It copies whole file systems, so it is removed at the end.
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(super) fn new(parent: &Path) -> Self {
        Self {
            folder: parent.join("store"),
        }
    }

    fn buildah(&self) -> Command {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(self.folder.join("root"));
        buildah.arg("--runroot").arg(self.folder.join("run"));
        buildah.args(["--storage-driver", "vfs"]);
        buildah
    }

    pub(super) fn build(&self) -> Command {
        let mut build = self.buildah();
        build.args(["bud", "--quiet", "--isolation", "chroot"]);
        build
    }

    /// Overwrites: an archive is not added to.
    pub(super) fn save(&self, image: &str, archive: &Path) -> Result<()> {
        let _ = fs::remove_file(archive);
        let target = format!("docker-archive:{}:{image}", archive.display());
        succeed(self.buildah().args(["push", "--quiet", image, &target]))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
