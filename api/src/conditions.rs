//! The types of the conditions of a batch, and the reasons that they give.
//!
//! Job's names stand where the meaning is Job's. A batch ends as a Job does: first the target (`SuccessCriteriaMet` or
//! `FailureTarget`), then, when its workers are gone, the end itself (`Complete` or `Failed`).

/// The workers are stopped on request, and the results are kept.
pub const SUSPENDED: &str = "Suspended";
/// The batch will be complete once its workers are gone.
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// The batch is complete.
pub const COMPLETE: &str = "Complete";
/// The batch will have failed once its workers are gone.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// The batch has failed.
pub const FAILED: &str = "Failed";
/// The collector records outcomes.
pub const COLLECTOR_READY: &str = "CollectorReady";
/// As many workers are ready as asked for.
pub const WORKERS_READY: &str = "WorkersReady";
/// Tasks finish.
pub const PROGRESSING: &str = "Progressing";
/// The fleet runs, or the batch is complete: what `kubectl`, Helm and Argo wait for.
pub const READY: &str = "Ready";
/// The batch has failed: what Helm and Argo give up at.
pub const STALLED: &str = "Stalled";
/// The results can be read.
pub const RESULTS_AVAILABLE: &str = "ResultsAvailable";

/// The reasons, each in `UpperCamelCase`.
pub mod reason {
    /// Reasons that tell no trouble.
    pub const BENIGN: [&str; 6] = [STARTING, AS_DESIRED, RUNNING, FINISHED, SUSPENDED, RESUMED];
    /// Complete: every task has succeeded.
    pub const COMPLETIONS_REACHED: &str = "CompletionsReached";
    /// Complete: a rule of the success policy is met.
    pub const SUCCESS_POLICY: &str = "SuccessPolicy";
    /// Failed: all tasks are settled, and some of them failed.
    pub const FAILED_INDEXES: &str = "FailedIndexes";
    /// Failed: more tasks failed than `maxFailedIndexes`.
    pub const MAX_FAILED_INDEXES_EXCEEDED: &str = "MaxFailedIndexesExceeded";
    /// Failed: more worker pods failed than `backoffLimit`.
    pub const BACKOFF_LIMIT_EXCEEDED: &str = "BackoffLimitExceeded";
    /// Failed: a worker pod failed in a way that a rule of `podFailurePolicy` fails the batch for.
    pub const POD_FAILURE_POLICY: &str = "PodFailurePolicy";
    /// Failed: the batch took longer than `activeDeadlineSeconds`.
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
    /// Failed: the source of the tasks holds others than when the batch began.
    pub const TASKS_SOURCE_CHANGED: &str = "TasksSourceChanged";
    /// Failed or not ready: the tasks cannot be read.
    pub const TASKS_SOURCE_UNAVAILABLE: &str = "TasksSourceUnavailable";
    /// The results are lost with the collector's disk.
    pub const RESULTS_LOST: &str = "ResultsLost";
    /// The results cannot be read at the moment.
    pub const RESULTS_UNAVAILABLE: &str = "ResultsUnavailable";
    /// The results are kept by the collector.
    pub const RESULTS_KEPT: &str = "ResultsKept";
    /// The spec is one that the operator cannot run.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Suspended is True: `suspend` is set.
    pub const SUSPENDED: &str = "BatchSuspended";
    /// Suspended is False: `suspend` is no longer set.
    pub const RESUMED: &str = "BatchResumed";
    /// All is as asked for.
    pub const AS_DESIRED: &str = "AsDesired";
    /// Pods are on their way.
    pub const STARTING: &str = "Starting";
    /// The batch runs.
    pub const RUNNING: &str = "Running";
    /// The batch has ended.
    pub const FINISHED: &str = "Finished";
    /// Nothing finished for as long as `progressDeadlineSeconds`.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// No worker is there to run tasks.
    pub const NO_WORKERS: &str = "NoWorkers";
    /// No worker takes tasks at the moment.
    pub const NO_CREDIT: &str = "NoCredit";
    /// The collector does not answer.
    pub const COLLECTOR_UNREACHABLE: &str = "CollectorUnreachable";
    /// The collector's disk is full.
    pub const COLLECTOR_DISK_FULL: &str = "CollectorDiskFull";
    /// Pods cannot be made: the API server says no, for instance by a quota.
    pub const PODS_REFUSED: &str = "PodsRefused";
    /// A pod waits for a node.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// An image cannot be pulled.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// A pod waits for a `ConfigMap`, a `Secret` or a volume.
    pub const POD_NOT_CONFIGURED: &str = "PodNotConfigured";
    /// An init container fails.
    pub const INIT_FAILED: &str = "InitFailed";
    /// Pods end again and again without progress.
    pub const PODS_CRASH: &str = "PodsCrash";
    /// The workers cannot start the executor's program.
    pub const EXECUTOR_FAILED: &str = "ExecutorFailed";
    /// The ventilator broke down, and is started again.
    pub const VENTILATOR_FAILED: &str = "VentilatorFailed";
    /// The lost node of a pod may still run it.
    pub const NODE_LOST: &str = "NodeLost";
}
