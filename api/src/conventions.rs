//! What the operator, the pods, the command line and users' scripts agree on.

/// The label with the batch's name, cut to what a label can hold.
pub const BATCH_LABEL: &str = "harmony.dev/batch";
/// The label with the batch's uid: exact, however long the name is.
pub const BATCH_UID_LABEL: &str = "harmony.dev/batch-uid";
/// The label that says what a pod is: [`WORKER_ROLE`] or [`COLLECTOR_ROLE`].
pub const ROLE_LABEL: &str = "harmony.dev/role";
/// The role of a worker pod.
pub const WORKER_ROLE: &str = "worker";
/// The role of a collector pod.
pub const COLLECTOR_ROLE: &str = "collector";
/// The label with a worker's ordinal: its place in the fleet, from 0.
pub const ORDINAL_LABEL: &str = "harmony.dev/ordinal";
/// The label with a worker pod's generation: how many pods had its ordinal before, from 0.
pub const GENERATION_LABEL: &str = "harmony.dev/generation";

/// The label with the revision of the template and executor that a worker pod was made from.
pub const REVISION_LABEL: &str = "harmony.dev/revision";

/// Where Harmony's image holds its program. Not below [`AGENT_DIR`], which a volume hides.
pub const IMAGE_PROGRAM: &str = "/bin/harmony";
/// Where Harmony's image holds the operator.
pub const IMAGE_OPERATOR: &str = "/bin/harmony-operator";

/// The container that runs tasks; without one of this name it is the first of the template.
pub const WORKER_CONTAINER: &str = "worker";
/// The container of the collector pod.
pub const COLLECTOR_CONTAINER: &str = "collector";
/// The init container that brings the agent, which is `harmony` itself, into any image.
pub const AGENT_CONTAINER: &str = "harmony-agent";
/// The volume that the agent is brought in, and the only one it writes to.
pub const AGENT_VOLUME: &str = "harmony-agent";
/// Where that volume is mounted.
pub const AGENT_DIR: &str = "/harmony";

/// Where ventilators and workers reach a pod: HARMONY/1. Ports are uncommon, since users' containers share them.
pub const LINK_PORT: u16 = 27_700;
/// The name of [`LINK_PORT`] in the pod.
pub const LINK_PORT_NAME: &str = "harmony";
/// Where a pod's `/metrics`, `/healthz` and `/readyz` are.
pub const METRICS_PORT: u16 = 27_780;
/// The name of [`METRICS_PORT`] in the pod.
pub const METRICS_PORT_NAME: &str = "metrics";
/// On the pod's loopback only, reached by port-forward: `/debug/state`, and a collector's results.
pub const LOOPBACK_PORT: u16 = 27_781;

/// The operator's name: field manager, event reporter, value of `managedBy`.
pub const OPERATOR: &str = "harmony.dev/operator";

/// How an operator that does not lead begins its answer to who asks about a batch.
pub const STANDS_BY: &str = "this operator stands by";
