//! The pod of the collector.

#![expect(
    unreachable_pub,
    reason = "kube's derive writes a struct once more, inside a function"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, rules};
use crate::limits::MAX_RESOURCE_NAME;

/// The pod of the collector, which keeps the results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectorSpec {
    /// A claim for the results. Without one they are on the node's disk, and are lost with the node: what is lost before the end runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// What the collector's container asks for, as in any pod.
    #[schemars(schema_with = "super::schema::resources")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// The labels of the nodes that it may run on.
    #[schemars(schema_with = "super::schema::node_selector")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// The taints of nodes that it tolerates.
    #[schemars(schema_with = "super::schema::tolerations")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
}

/// A claim for the results, which one pod at a time can use (ReadWriteOncePod).
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = rules::is_bytes("size", "10Gi"))]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// How much: a quantity such as 10Gi.
    pub size: ByteSize,
    /// The storage class. Left out, it is the cluster's default.
    #[schemars(length(min = 1, max = MAX_RESOURCE_NAME))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}
