//! The processes behind a cluster that `cargo xtask cluster up` made: what no API can break, tests break here.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;

use crate::killer::container;

/// The variable by which a process is known as part of a local cluster; its value names the cluster.
const MARK: &str = "HARMONY_CLUSTER";

/// Where Linux shows its control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A cluster whose nodes are network namespaces of this machine.
#[derive(Clone, Debug)]
pub struct LocalCluster {
    folder: PathBuf,
}

impl LocalCluster {
    /// The one of `$KUBECONFIG`. Of any other cluster the machines are out of reach, and the test cannot be made.
    pub fn of_kubeconfig() -> Result<Self> {
        let kubeconfig = env::var_os("KUBECONFIG").context("KUBECONFIG is not set")?;
        let folder = Path::new(&kubeconfig).parent().unwrap_or(Path::new("/")).to_owned();
        ensure!(
            folder.join("processes").is_dir(),
            "{}: this test stops processes of nodes and of the control plane, which only a cluster of \
             `cargo xtask cluster up` on this machine lets it do",
            kubeconfig.display()
        );
        Ok(Self { folder })
    }

    /// Where it keeps everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program of the cluster by the name under which it was recorded, as `kube-apiserver` or `kubelet-node-1`.
    pub fn component(&self, name: &str) -> Result<Component> {
        Component::new(self.folder.join("processes").join(name), name)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Result<Node> {
        let settings = self.folder.join(name).join("kubelet.yaml");
        let text = fs::read_to_string(&settings).with_context(|| format!("{}", settings.display()))?;
        let root = text.lines().find_map(|line| line.strip_prefix("cgroupRoot: "));
        let root = root.context("kubelet has no cgroupRoot")?.trim_matches(['"', '/']);
        Ok(Node {
            kubelet: self.component(&format!("kubelet-{name}"))?,
            cgroups: cgroups(root),
        })
    }
}

/// The folders of a cgroup, one for each controller, or the one of version 2.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let controllers = fs::read_dir(CGROUPS).into_iter().flatten().flatten();
    let below = controllers.map(|entry| entry.path().join(name));
    [Path::new(CGROUPS).join(name)]
        .into_iter()
        .chain(below)
        .filter(|path| path.is_dir())
        .collect()
}

/// A program of the cluster.
#[derive(Debug)]
pub struct Component {
    name: String,
    record: PathBuf,
    id: u32,
}

impl Component {
    fn new(record: PathBuf, name: &str) -> Result<Self> {
        let id = fs::read_to_string(&record).with_context(|| format!("the cluster has no {name}"))?;
        let id = id.trim().parse()?;
        let environment = fs::read(format!("/proc/{id}/environ")).with_context(|| format!("{name} does not run"))?;
        let marked = words(&environment).any(|word| word.starts_with(&format!("{MARK}=")));
        // A recorded id may have gone to another process.
        ensure!(marked, "process {id} is not the cluster's {name}");
        let name = name.to_owned();
        Ok(Self { name, record, id })
    }

    /// Stops it in its tracks. It goes on when what this gives is dropped.
    pub fn freeze(&self) -> Result<Frozen> {
        signal("STOP", &[self.id])?;
        Ok(Frozen(vec![self.id]))
    }

    /// Kills it. It is started again when what this gives is dropped.
    pub fn kill(self) -> Result<Killed> {
        let process = PathBuf::from(format!("/proc/{}", self.id));
        let again = Again {
            line: words(&fs::read(process.join("cmdline"))?).collect(),
            environment: words(&fs::read(process.join("environ"))?).collect(),
            folder: fs::read_link(process.join("cwd"))?,
            // Files of a process that has ended cannot be opened, but a file that is open stays.
            network: fs::File::open(process.join("ns/net"))?,
            log: fs::OpenOptions::new()
                .append(true)
                .open(fs::read_link(process.join("fd/2"))?)?,
        };
        signal("KILL", &[self.id])?;
        Ok(Killed {
            component: self,
            again: Some(again),
        })
    }

    /// Asks for a page in the network that this one has; gives head and body.
    fn ask(&self, ip: &str, port: u16, request: &str) -> Result<String> {
        // `wget` would look for names, for which a static program has no library.
        let mut child = Command::new("nsenter")
            .args(["--net", "--target", &self.id.to_string()])
            .args(["busybox", "nc", "-w", "5", ip, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("nsenter cannot be started: is util-linux installed?")?;
        let mut answer = String::new();
        if let (Some(stdin), Some(stdout)) = (&mut child.stdin, &mut child.stdout) {
            stdin.write_all(request.as_bytes())?;
            // Its end of the connection stays open meanwhile: servers take a closed one for a client that left.
            stdout.read_to_string(&mut answer)?;
        }
        child.wait()?;
        Ok(answer)
    }
}

/// Processes that are stopped until this is dropped.
#[must_use = "they go on when this is dropped"]
#[derive(Debug)]
pub struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        // Who has ended meanwhile cannot go on.
        let _ = signal("CONT", &self.0);
    }
}

/// How a program was started.
#[derive(Debug)]
struct Again {
    line: Vec<String>,
    environment: Vec<String>,
    folder: PathBuf,
    network: fs::File,
    log: fs::File,
}

impl Again {
    fn start(self) -> Result<u32> {
        // In a session of its own: a key pressed at the terminal of the tests is not for it.
        let mut command = Command::new("setsid");
        command.args(["nsenter", "--net=/proc/self/fd/0"]).args(&self.line);
        let variables = self.environment.iter().filter_map(|word| word.split_once('='));
        command.env_clear().envs(variables).current_dir(&self.folder);
        let child = command
            .stdin(self.network)
            .stdout(self.log.try_clone()?)
            .stderr(self.log)
            .spawn()
            .context("setsid cannot be started")?;
        Ok(child.id())
    }
}

/// A program that was killed, until this is dropped.
#[must_use = "it starts again when this is dropped"]
#[derive(Debug)]
pub struct Killed {
    component: Component,
    again: Option<Again>,
}

impl Killed {
    /// Starts it again as it was.
    pub fn start(mut self) -> Result<()> {
        self.start_once()
    }

    fn start_once(&mut self) -> Result<()> {
        let Some(again) = self.again.take() else { return Ok(()) };
        let name = &self.component.name;
        let id = again.start().with_context(|| format!("{name} does not start again"))?;
        Ok(fs::write(&self.component.record, id.to_string())?)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        if let Err(error) = self.start_once() {
            eprintln!("{error:#}: take the cluster down");
        }
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    kubelet: Component,
    cgroups: Vec<PathBuf>,
}

impl Node {
    /// Loses it as by a power cut, all but its network: nobody tells the API server, and all that ran in its pods is gone.
    /// When what this gives is dropped, kubelet goes on and finds nothing running.
    pub fn lose(&self) -> Result<Frozen> {
        let frozen = self.kubelet.freeze()?;
        for _ in 0..10 {
            let members: Vec<u32> = self.cgroups.iter().flat_map(|folder| members(folder)).collect();
            if members.is_empty() {
                return Ok(frozen);
            }
            // Who has ended meanwhile is no failure.
            let _ = signal("KILL", &members);
        }
        bail!("the containers of {} cannot be killed", self.kubelet.name)
    }

    /// Stops the processes of a container that runs here in their tracks. They go on when what this gives is dropped.
    pub fn freeze(&self, pod: &Pod) -> Result<Frozen> {
        let container = container(pod)?;
        let all: BTreeSet<u32> = self.cgroups.iter().flat_map(|folder| members(folder)).collect();
        let inside = |id: &u32| {
            let groups = fs::read_to_string(format!("/proc/{id}/cgroup"));
            groups.is_ok_and(|groups| groups.contains(&container))
        };
        let ids: Vec<u32> = all.into_iter().filter(inside).collect();
        ensure!(!ids.is_empty(), "container {container} has no process on the node");
        signal("STOP", &ids)?;
        Ok(Frozen(ids))
    }

    /// Lets a container that runs here write so many bytes a second to a device, or as many as it can. The device's file
    /// system should be the test's own: its other users wait for the same journal.
    pub(crate) fn limit_writes(&self, pod: &Pod, device: u64, bytes_per_second: Option<u32>) -> Result<()> {
        let container = container(pod)?;
        let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let most = bytes_per_second.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
        let limits = [
            (
                "blkio.throttle.write_bps_device",
                format!("{device} {}", bytes_per_second.unwrap_or(0)),
            ),
            ("io.max", format!("{device} wbps={most}")), // version 2
        ];
        let groups = self.cgroups.iter().flat_map(|folder| below(folder));
        for group in groups.filter(|group| group.to_string_lossy().contains(&container)) {
            for (file, limit) in &limits {
                if group.join(file).exists() {
                    return Ok(fs::write(group.join(file), limit)?);
                }
            }
        }
        bail!("the cgroup of container {container} has no limit of what it writes")
    }

    /// The metrics of a pod, asked for at its own address, without the API server.
    pub fn metrics_of(&self, ip: &str) -> Result<String> {
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {ip}\r\n\r\n");
        let answer = self.kubelet.ask(ip, 27_780, &request)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
        ensure!(head.contains(" 200 "), "{ip}: {head}");
        Ok(body.to_owned())
    }
}

/// A cgroup and all below it.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<PathBuf> = folders.flat_map(|entry| below(&entry.path())).collect();
    found.push(folder.to_owned());
    found
}

/// The processes in a cgroup and in those below it.
fn members(folder: &Path) -> Vec<u32> {
    let ids = |group: PathBuf| fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let lists: Vec<String> = below(folder).into_iter().map(ids).collect();
    lists
        .iter()
        .flat_map(|ids| ids.lines())
        .filter_map(|id| id.parse().ok())
        .collect()
}

fn signal(name: &str, ids: &[u32]) -> Result<()> {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).args(ids.iter().map(u32::to_string));
    let status = kill.stderr(Stdio::null()).status();
    let status = status
        .map_err(|error: io::Error| error)
        .context("kill cannot be started")?;
    ensure!(status.success(), "no SIG{name} for {ids:?}");
    Ok(())
}

/// The words of a file of /proc that separates them by zero bytes.
fn words(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
}
