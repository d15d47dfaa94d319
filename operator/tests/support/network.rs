//! What network policies allow, as Kubernetes defines it: a flow needs the sender's egress and the receiver's ingress. What
//! no policy selects is open; what one selects is closed but for the rules of all that select it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(crate) type Labels = BTreeMap<String, String>;

/// Who sends or receives.
#[derive(Clone, Debug)]
pub(crate) enum Party {
    /// A pod of the cluster. A namespace's only label here is its name, which Kubernetes gives it.
    Pod { namespace: String, labels: Labels },
    /// Something with an address of its own: a server elsewhere, or on a node.
    Host(Ipv4Addr),
}

impl Party {
    pub(crate) fn pod(namespace: &str, labels: Labels) -> Self {
        let namespace = namespace.to_owned();
        Self::Pod { namespace, labels }
    }
}

/// A port and its protocol.
pub(crate) type Port = (u16, &'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// Whether a connection may be made.
pub(crate) fn allowed(policies: &[NetworkPolicy], from: &Party, to: &Party, port: Port) -> bool {
    open(policies, from, to, port, Direction::Egress) && open(policies, to, from, port, Direction::Ingress)
}

/// Whether what a pod is bound by lets it talk with the other one in this direction.
fn open(policies: &[NetworkPolicy], own: &Party, other: &Party, port: Port, direction: Direction) -> bool {
    let mut selected = policies
        .iter()
        .filter(|policy| binds(policy, own, direction))
        .peekable();
    selected.peek().is_none() || selected.any(|policy| lets(policy, other, port, direction))
}

fn binds(policy: &NetworkPolicy, party: &Party, direction: Direction) -> bool {
    let Party::Pod { namespace, labels } = party else {
        return false;
    };
    let spec = policy.spec.as_ref().unwrap();
    let types = spec.policy_types.clone().unwrap_or_else(|| {
        let egress = spec.egress.is_some().then(|| "Egress".to_owned());
        std::iter::once("Ingress".to_owned()).chain(egress).collect()
    });
    let name = match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    };
    policy.metadata.namespace.as_ref() == Some(namespace)
        && types.iter().any(|found| found == name)
        && spec
            .pod_selector
            .as_ref()
            .is_none_or(|selector| picks(selector, labels))
}

fn lets(policy: &NetworkPolicy, other: &Party, port: Port, direction: Direction) -> bool {
    let spec = policy.spec.as_ref().unwrap();
    let home = policy.metadata.namespace.as_deref().unwrap();
    let through = |peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>| {
        let (peers, ports) = (peers.unwrap_or_default(), ports.unwrap_or_default());
        let peer = peers.is_empty() || peers.iter().any(|peer| is(peer, home, other));
        peer && (ports.is_empty() || ports.iter().any(|found| covers(found, port)))
    };
    match direction {
        Direction::Ingress => {
            let mut rules = spec.ingress.iter().flatten();
            rules.any(|rule| through(rule.from.as_deref(), rule.ports.as_deref()))
        }
        Direction::Egress => {
            let mut rules = spec.egress.iter().flatten();
            rules.any(|rule| through(rule.to.as_deref(), rule.ports.as_deref()))
        }
    }
}

fn is(peer: &NetworkPolicyPeer, home: &str, party: &Party) -> bool {
    match (party, &peer.ip_block) {
        (Party::Host(address), Some(block)) => holds(block, *address),
        (Party::Pod { namespace, labels }, None) => {
            let name = ("kubernetes.io/metadata.name".to_owned(), namespace.clone());
            let place = match &peer.namespace_selector {
                Some(selector) => picks(selector, &Labels::from([name])),
                None => namespace == home,
            };
            place
                && peer
                    .pod_selector
                    .as_ref()
                    .is_none_or(|selector| picks(selector, labels))
        }
        // Blocks are for what is not a pod.
        _ => false,
    }
}

fn holds(block: &IPBlock, address: Ipv4Addr) -> bool {
    let within = |cidr: &str| {
        let (net, length) = cidr.split_once('/').unwrap();
        let IpAddr::V4(net) = net.parse().unwrap() else {
            return false;
        };
        let mask = u32::MAX.checked_shl(32 - length.parse::<u32>().unwrap()).unwrap_or(0);
        net.to_bits() & mask == address.to_bits() & mask
    };
    within(&block.cidr) && !block.except.iter().flatten().any(|cidr| within(cidr))
}

fn covers(port: &NetworkPolicyPort, (number, protocol): Port) -> bool {
    let first = match &port.port {
        None => return port.protocol.as_deref().unwrap_or("TCP") == protocol,
        Some(IntOrString::Int(first)) => *first,
        Some(IntOrString::String(name)) => panic!("a port by name cannot be judged without the pod's: {name}"),
    };
    let last = port.end_port.unwrap_or(first);
    (first..=last).contains(&i32::from(number)) && port.protocol.as_deref().unwrap_or("TCP") == protocol
}

fn picks(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = |(name, value): (&String, &String)| labels.get(name) == Some(value);
    selector.match_labels.iter().flatten().all(equal)
        && selector.match_expressions.iter().flatten().all(|wanted| {
            let found = labels.get(&wanted.key);
            let among = found.is_some_and(|found| wanted.values.iter().flatten().any(|value| value == found));
            match wanted.operator.as_str() {
                "In" => among,
                "NotIn" => !among,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                other => panic!("no such operator: {other}"),
            }
        })
}
