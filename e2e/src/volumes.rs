//! Pre-made volumes that were claimed once. Nobody provisions others, so a fresh one takes the place of each.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};

/// The classes that `cargo xtask cluster up` makes.
const CLASSES: [&str; 2] = ["local", "shared"];

/// Volumes of a kind: the successor of one has its number and so much more.
const STEP: u32 = 20;

/// Replaces the volumes whose claim is gone by ones with the next folder. Another test may do the same at once.
pub(crate) async fn renew(client: &Client) -> Result<()> {
    let volumes = Api::<PersistentVolume>::all(client.clone());
    for volume in volumes.list(&ListParams::default()).await? {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let class = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
        if phase != Some("Released") || !class.is_some_and(|class| CLASSES.contains(&class)) {
            continue;
        }
        let name = volume.name_any();
        let next = successor(volume).with_context(|| format!("volume {name} has no number at its end"))?;
        for done in [
            volumes.create(&PostParams::default(), &next).await.map(drop),
            volumes.delete(&name, &DeleteParams::default()).await.map(drop),
        ] {
            match done {
                Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_not_found() => {}
                done => done.with_context(|| format!("volume {name} cannot be renewed"))?,
            }
        }
    }
    Ok(())
}

/// The same volume with the number and the folder after.
fn successor(mut volume: PersistentVolume) -> Option<PersistentVolume> {
    let name = advance(&volume.name_any(), '-')?;
    let mut spec = volume.spec.take()?;
    spec.claim_ref = None;
    if let Some(local) = &mut spec.local {
        local.path = advance(&local.path, '/')?;
    }
    if let Some(shared) = &mut spec.host_path {
        shared.path = advance(&shared.path, '/')?;
    }
    let mut next = PersistentVolume {
        spec: Some(spec),
        ..PersistentVolume::default()
    };
    next.metadata.name = Some(name);
    Some(next)
}

fn advance(text: &str, before: char) -> Option<String> {
    let (start, number) = text.rsplit_once(before)?;
    Some(format!("{start}{before}{}", number.parse::<u32>().ok()? + STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_volume_has_another_name_and_folder() {
        assert_eq!(advance("local-node-0-7", '-').unwrap(), "local-node-0-27");
        assert_eq!(advance("/volumes/27", '/').unwrap(), "/volumes/47");
        assert_eq!(advance("by-hand", '-'), None);
    }
}
