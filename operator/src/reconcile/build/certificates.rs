//! Places for certificates: one Secret per role, of type `kubernetes.io/tls` with the authority's certificate beside.

use std::iter;

use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use crate::reconcile::validate::Batch;

/// The volume with the certificates.
pub(crate) const VOLUME: &str = "harmony-tls";
/// Where it is mounted.
pub(crate) const DIR: &str = "/harmony-tls";
/// The keys of the Secret that a pod gets, each with the flag that names its file. Whatever else the Secret holds, such
/// as the authority's key, stays out of the pod.
const FILES: [(&str, &str); 3] = [
    ("--tls-ca", "ca.crt"),
    ("--tls-certificate", "tls.crt"),
    ("--tls-key", "tls.key"),
];
/// For reading by any user: a user's image may run as anyone, and the volume is in no other container.
const MODE: i32 = 0o444;

/// The volume with a role's certificate.
pub(super) fn volume(secret: String) -> Volume {
    let items = FILES.map(|(_, key)| KeyToPath {
        key: key.to_owned(),
        path: key.to_owned(),
        mode: None,
    });
    Volume {
        name: VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            items: Some(items.into()),
            default_mode: Some(MODE),
            optional: None,
        }),
        ..Volume::default()
    }
}

/// The place of that volume in a container.
pub(super) fn mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: DIR.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// The flags that name the files.
pub(super) fn flags() -> impl Iterator<Item = String> {
    FILES
        .into_iter()
        .flat_map(|(flag, file)| iter::once(flag.to_owned()).chain([format!("{DIR}/{file}")]))
}

/// The name that the collector's certificate must have: pods are dialled by address, which certificates do not tell.
pub(super) fn collector_name(batch: &Batch) -> String {
    format!("{}.{}.svc", batch.names.collector(), batch.namespace)
}
