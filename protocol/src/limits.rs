//! Every bound of the protocol, each with its unit and its reason.

use std::time::Duration;

/// How often each side sends PING, whatever else it sends: PING tells what nothing else does.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// After this time without a word people are told that a peer is silent: two heartbeats, and time for one on its way.
pub const SILENT_AFTER: Duration = Duration::from_millis(2_500);
/// Silence after which a link counts as dead: five heartbeats, so that one lost second is not a lost worker.
pub const DEAD_AFTER: Duration = Duration::from_secs(5);
/// A machine that was not stepped for this long cannot judge others' silence and restarts its timers.
pub const STEP_GAP: Duration = Duration::from_secs(1);
/// How long a new link may take until the peer's HELLO is in.
pub const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How long a link that closed without BYE keeps its numbers, so that a REPORT under way can settle some of them.
pub const RETURN_WAIT: Duration = Duration::from_millis(20);
/// How long a ventilator that takes over waits for all known workers before it sends what it has not located.
pub const LOCATE_WAIT: Duration = Duration::from_secs(5);
/// How long it sends nothing at all until all known workers have said what they hold: they answer within a round trip, and
/// what one holds must not go to another that answered first.
pub const LOCATE_QUIET: Duration = Duration::from_secs(1);
/// A process that stays away for this long counts as dead even if nobody saw it exit.
pub const GONE_AFTER: Duration = Duration::from_secs(30);
/// Pause between a MISSING and the next END.
pub const END_AGAIN: Duration = Duration::from_secs(5);
/// A worker without a bound link to the collector for this long gets nothing new, and its numbers go elsewhere.
pub const UNBOUND_AFTER: Duration = Duration::from_secs(10);
/// Without a ventilator, and with the collector out of reach, a worker keeps outcomes for this long.
pub const KEEP_OUTCOMES: Duration = Duration::from_mins(10);
/// Without a ventilator and without outcomes for this long, the collector unloads a batch from memory; its log stays.
pub const UNLOAD_AFTER: Duration = Duration::from_mins(10);
/// First and longest pause between two dials of one address; it doubles in between, with jitter.
pub const REDIAL_FIRST: Duration = Duration::from_millis(20);
/// See [`REDIAL_FIRST`].
pub const REDIAL_MOST: Duration = Duration::from_secs(2);
/// First and longest delay before a failed number is tried again; it doubles with each attempt.
pub const RETRY_FIRST: Duration = Duration::from_millis(100);
/// See [`RETRY_FIRST`].
pub const RETRY_MOST: Duration = Duration::from_mins(1);

/// Numbers waiting for a retry; at this many a ventilator sends only retries, so that memory stays bounded.
pub const WAITING_RETRIES: usize = 65_536;
/// Worker deaths that a number may be in flight at before it reruns alone.
pub const DEATHS_BEFORE_ALONE: u32 = 3;

/// The largest number of tasks in one TASKS message: enough that the cost per message vanishes.
pub const TASKS_PER_MESSAGE: usize = 1_024;
/// The bytes of payload at which a TASKS message is closed.
pub const TASKS_BYTES: usize = 1 << 20;
/// The largest task payload in bytes, announced in HELLO.
pub const MAX_PAYLOAD: u64 = MAX_PARTED;
/// The largest number of entries in one RESULTS message.
pub const RESULTS_PER_MESSAGE: usize = 1_024;
/// The bytes of output after which a RESULTS message is closed.
pub const RESULTS_BYTES: usize = 1 << 20;
/// The largest `results.maxBytesPerTask`, in bytes.
pub const MAX_OUTPUT: u64 = MAX_PARTED;
/// The bytes of one output, or payload, that travel whole in RESULTS or TASKS; a longer one goes ahead in PARTs, so that no
/// message is much longer than others.
pub const INLINE_BYTES: usize = 1 << 20;
/// The most bytes that one PART carries: enough that the cost per message vanishes.
pub const PART_BYTES: usize = 1 << 20;
/// The largest output, or payload, that travels in PARTs, in bytes.
pub const MAX_PARTED: u64 = 1 << 30;
/// Payloads that one ventilator has under way in PARTs at once. Each may fill its link by what a worker grants, half of
/// [`QUEUE_BYTES`], so that memory stays bounded however many workers there are; so many fill any network.
pub const UPLOADS_AT_ONCE: usize = 8;
/// The largest message body in bytes that a link lets pass: RESULTS that a long outcome took past [`RESULTS_BYTES`], and the
/// index.
pub const MAX_MESSAGE: usize = RESULTS_BYTES + INLINE_BYTES + (2 << 20);
/// The largest control body (JSON) in bytes.
pub const MAX_CONTROL: usize = 1 << 20;
/// Ranges in one piece of STATE, MISSING, HELD or REPORT, so that control bodies stay far below [`MAX_CONTROL`].
pub const RANGES_PER_PIECE: usize = 8_192;
/// The tail of stderr that travels with a failure, in bytes.
pub const LOG_TAIL: usize = 4_096;
/// Failures that are told with their causes: in one REPORT, and to people. Enough to see what is wrong.
pub const FAILURES_TOLD: usize = 20;
/// The end of a failure's log that REPORT carries, in bytes: a line or two, so that a status can hold it.
pub const FAILURE_LOG: usize = 256;
/// Ranges of numbers that are shown to people at once.
pub const SPANS_TOLD: usize = 32;
/// Workers that a snapshot lists, so that it stays readable.
pub const WORKERS_TOLD: usize = 256;
/// Workers that an explanation lists: those that tell most, on one screen.
pub const WORKERS_EXPLAINED: usize = 20;
/// Worker processes that may have died, in an explanation.
pub const SUSPECTS_TOLD: usize = 10;
/// Groups of numbers that have been at workers for the longest time, in an explanation.
pub const STRAGGLERS_TOLD: usize = 10;
/// Bytes of any name or reason on the wire; longer ones are cut.
pub const MAX_NAME: usize = 1_024;

/// Tasks a worker holds unfinished at most, over all batches.
pub const QUEUE_TASKS: u64 = 32_768;
/// Payload bytes a worker holds unfinished in memory at most.
pub const QUEUE_BYTES: u64 = 32 << 20;
/// Payloads of unfinished tasks that a worker keeps in files before it grants no more bytes: each costs a descriptor.
pub const KEPT_PAYLOADS: usize = 256;
/// Bytes of these files: some of the longest payloads ahead of the tasks that run.
pub const KEPT_PAYLOAD_BYTES: u64 = 4 << 30;
/// Numbers of one batch at one worker, queued, running or unacked, that anybody else reckons with: twice what its own
/// bounds allow, since the last tasks that start pass them.
pub const HELD_MOST: u64 = 2 * (QUEUE_TASKS + UNACKED_TASKS as u64);
/// Outcomes of one batch that a worker keeps unacked at most: some 20 ms of the shortest tasks, which hides a group commit. More only makes
/// memory that has to be touched for the first time.
pub const UNACKED_TASKS: usize = 32_768;
/// Bytes of outcomes of one batch that a worker keeps unacked before it stops executing.
pub const UNACKED_BYTES: u64 = 64 << 20;
/// Outputs of one batch that a worker keeps in files and unacked before it stops executing: each costs a descriptor.
pub const SPOOLED_TASKS: usize = 256;
/// Bytes of these files.
pub const SPOOLED_BYTES: u64 = 4 << 30;
/// Bytes of PARTs of one batch that a worker has under way at most: enough to hide a commit of the collector, and little
/// memory.
pub const PARTS_UNDER_WAY: u64 = 8 << 20;
/// The smallest PART worth sending when the allowance is short, unless it is the last one. Half of the smallest allowance,
/// so that parts never wait for the reserve.
pub const PART_LEAST: u64 = ALLOWANCE_LEAST / 2;
/// The work that a worker asks for in advance, as time: long enough to hide round trips, short enough to stay fair.
pub const CREDIT_AHEAD: Duration = Duration::from_millis(200);

/// Bytes of unacked outcomes that all links of a collector together may send.
pub const COLLECTOR_BYTES: u64 = 192 << 20;
/// Bytes that a link may hold until its peer reads them: the largest allowance, which is half of [`COLLECTOR_BYTES`], and a message
/// that no allowance counts. With less a link would be closed while its peer stands still, and again whenever all is sent anew.
#[allow(clippy::cast_possible_truncation)] // 96 MiB
pub const LINK_BYTES: usize = (COLLECTOR_BYTES / 2) as usize + MAX_MESSAGE;
/// Links that one process keeps open at most.
pub const MAX_LINKS: usize = 4_096;
/// Batches that one process serves at once.
pub const MAX_BATCHES: usize = 1_024;
/// The highest N: numbers stay clear of the end of the range, so that sums of them cannot overflow.
pub const MAX_NUMBERS: u64 = 1 << 62;
/// Worker deaths, and numbers that they put at risk, that a batch remembers; beyond it a death costs nobody anything.
pub const LOSSES_KEPT: usize = 65_536;
/// Group commit: how long the first record waits for company.
pub const COMMIT_WITHIN: Duration = Duration::from_millis(5);
/// Group commit: the bytes at which it does not wait any longer.
pub const COMMIT_BYTES: u64 = 4 << 20;
/// Bytes of records between two checkpoints, so that a restart replays little.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Pause before a record that found no room on the disk is written again.
pub const DISK_FULL_PAUSE: Duration = Duration::from_secs(1);
/// The smallest allowance of a link, in bytes, however many links there are.
pub const ALLOWANCE_LEAST: u64 = 64 << 10;
/// Bytes of duplicates that wait to be compared.
pub const COMPARISON_BYTES: usize = 32 << 20;
/// Comparisons of duplicates with what is recorded that wait at once; beyond it duplicates are counted, not compared.
pub const COMPARISONS: usize = 64;
/// How long a worker that leaves waits for its last outcomes to be acked.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(5);
