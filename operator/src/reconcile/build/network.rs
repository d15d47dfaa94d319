//! Who may reach the pods of a batch, and the collector's name in DNS. What pods may reach stays the user's.

use harmony_api::conventions::{LINK_PORT, LINK_PORT_NAME, METRICS_PORT, METRICS_PORT_NAME};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Settings;
use super::labels::{self, Role, matching, operator_pods, owned, pods_of};
use crate::reconcile::validate::Batch;

/// The label that every namespace carries with its own name.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// The collector's headless Service: one address, the pod's own, under a name that stays when the pod is replaced.
pub(super) fn collector_service(batch: &Batch) -> Service {
    let port = |name: &str, port| ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: labels::metadata(batch, Role::Collector, batch.names.collector()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            // Those who dial find out themselves whether it answers, without the kubelet's delay.
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![
                port(LINK_PORT_NAME, LINK_PORT),
                port(METRICS_PORT_NAME, METRICS_PORT),
            ]),
            selector: Some(labels::selector(batch, Role::Collector)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Links to a worker come from the operator alone; links to the collector also from the batch's own workers.
pub(super) fn policies(batch: &Batch, settings: &Settings) -> [NetworkPolicy; 2] {
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(matching(owned([(NAMESPACE_LABEL, &settings.operator_namespace)]))),
        pod_selector: Some(operator_pods()),
        ip_block: None,
    };
    let workers = NetworkPolicyPeer {
        pod_selector: Some(pods_of(batch, Role::Worker)),
        ..NetworkPolicyPeer::default()
    };
    [
        policy(batch, Role::Worker, batch.names.workers(), vec![operator.clone()]),
        policy(batch, Role::Collector, batch.names.collector(), vec![operator, workers]),
    ]
}

fn policy(batch: &Batch, role: Role, name: String, linked: Vec<NetworkPolicyPeer>) -> NetworkPolicy {
    let to = |port, from| NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(i32::from(port))),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        }]),
    };
    NetworkPolicy {
        metadata: labels::metadata(batch, role, name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods_of(batch, role)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![to(LINK_PORT, Some(linked)), to(METRICS_PORT, None)]),
            egress: None,
        }),
    }
}
