//! The `CustomResourceDefinition`, printed from the types.

use kube::CustomResourceExt as _;

use crate::spec::HarmonyBatch;

/// The `CustomResourceDefinition` of `HarmonyBatch` as YAML, for `kubectl apply` and for the committed copy.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&HarmonyBatch::crd())
}
