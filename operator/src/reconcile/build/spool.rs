//! Where a worker keeps payloads and outputs that are too long for one message: a volume of its pod, since the file system of a
//! container may be closed to it.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume, VolumeMount};

/// The volume's name.
pub(in crate::reconcile) const VOLUME: &str = "harmony-spool";
/// Its place in the worker's container.
pub(in crate::reconcile) const DIR: &str = "/harmony-spool";

/// The volume, gone with the pod.
pub(super) fn volume() -> Volume {
    Volume {
        name: VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

/// Its place in a container.
pub(super) fn mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: DIR.to_owned(),
        ..VolumeMount::default()
    }
}
