//! Who may talk to whom, on which port: one table, judged by the policies of batches and by the chart's.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by them

mod support;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use harmony_operator::reconcile::build::{Links, build, worker_pod};
use harmony_operator::reconcile::dereference::Dereferenced;
use harmony_operator::reconcile::validate::validate;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use self::support::manifests::{DEPLOY, NARROW, of_kind, only};
use self::support::network::{Labels, Party, Port, allowed};
use self::support::{SMALL, resource, settings};

const LINK: Port = (27_700, "TCP");
const METRICS: Port = (27_780, "TCP");
const LOOPBACK: Port = (27_781, "TCP");
const DNS: Port = (53, "UDP");
const DNS_TCP: Port = (53, "TCP");
const HTTPS: Port = (443, "TCP");
const HTTP: Port = (80, "TCP");
const API: Port = (6_443, "TCP");
const OTLP: Port = (4_318, "TCP");
/// Whatever else a pod may listen on.
const OTHER: Port = (8_080, "TCP");

/// Allowed with the chart's own values, and with those of `ci/narrow-values.yaml`.
type Verdict = (bool, bool);
/// Which of the two is asked for.
type Column = fn(&Verdict) -> bool;
const ALWAYS: Verdict = (true, true);
const NEVER: Verdict = (false, false);
/// Only while the operator's policy is as wide as it is by default.
const UNLESS_NARROW: Verdict = (true, false);

/// From, to, where, and whether. There are two batches in the namespace `films`, `render` and `cut`, and one in `ads`.
const FLOWS: &[(&str, &str, &[Port], Verdict)] = &[
    // Links: HARMONY/1 makes a worker run what it is told.
    ("operator", "render worker", &[LINK], ALWAYS),
    ("operator", "render collector", &[LINK], ALWAYS),
    ("operator", "ads worker", &[LINK], ALWAYS),
    ("operator", "render worker", &[LOOPBACK, OTHER], NEVER),
    ("render worker", "render collector", &[LINK], ALWAYS),
    ("render worker", "render collector", &[LOOPBACK, OTHER], NEVER),
    ("render worker", "render worker", &[LINK], NEVER),
    ("render collector", "render worker", &[LINK], NEVER),
    ("render worker", "operator", &[LINK], NEVER),
    // Batches do not meet, wherever they are.
    ("render worker", "cut collector", &[LINK], NEVER),
    ("render worker", "cut worker", &[LINK], NEVER),
    ("render worker", "ads collector", &[LINK], NEVER),
    ("ads worker", "render collector", &[LINK], NEVER),
    ("cut collector", "render collector", &[LINK], NEVER),
    // Others: in the namespace of the batch, in the operator's, and with the operator's labels elsewhere.
    ("user's pod", "render worker", &[LINK, LOOPBACK, OTHER], NEVER),
    ("user's pod", "render collector", &[LINK, LOOPBACK, OTHER], NEVER),
    ("neighbour of the operator", "render worker", &[LINK], NEVER),
    ("neighbour of the operator", "render collector", &[LINK], NEVER),
    ("impostor of the operator", "render worker", &[LINK], NEVER),
    ("impostor of the operator", "render collector", &[LINK], NEVER),
    ("outside", "render worker", &[LINK, OTHER], NEVER),
    ("outside", "operator", &[LINK, LOOPBACK, OTHER], NEVER),
    // Who may make pods in a namespace may give them the labels of a worker there, and of no other batch's namespace.
    ("impostor of a worker", "render collector", &[LINK], ALWAYS),
    ("impostor of a worker", "render worker", &[LINK], NEVER),
    ("impostor of a worker in ads", "render collector", &[LINK], NEVER),
    // Metrics.
    ("prometheus", "render worker", &[METRICS], ALWAYS),
    ("prometheus", "render collector", &[METRICS], ALWAYS),
    ("prometheus", "operator", &[METRICS], ALWAYS),
    ("prometheus", "operator", &[LINK, LOOPBACK], NEVER),
    ("prometheus", "render collector", &[LINK, LOOPBACK], NEVER),
    ("user's pod", "render worker", &[METRICS], ALWAYS),
    ("user's pod", "operator", &[METRICS], UNLESS_NARROW),
    ("neighbour of prometheus", "operator", &[METRICS], UNLESS_NARROW),
    ("operator", "render worker", &[METRICS], UNLESS_NARROW),
    // What the operator reaches.
    ("operator", "dns", &[DNS, DNS_TCP], ALWAYS),
    ("operator", "API server", &[API], ALWAYS),
    ("operator", "API server", &[HTTPS], UNLESS_NARROW),
    ("operator", "source host", &[HTTPS], ALWAYS),
    ("operator", "source host", &[HTTP], UNLESS_NARROW),
    ("operator", "outside", &[API, HTTPS, HTTP], UNLESS_NARROW),
    ("operator", "user's pod", &[LINK, OTHER], UNLESS_NARROW),
    ("operator", "trace receiver", &[OTLP], ALWAYS),
    ("operator", "trace receiver", &[OTHER], UNLESS_NARROW),
    // What the pods of batches reach is not Harmony's to say.
    ("render worker", "dns", &[DNS, DNS_TCP], ALWAYS),
    ("render worker", "API server", &[API], ALWAYS),
    ("render worker", "source host", &[HTTPS], ALWAYS),
    ("render worker", "outside", &[HTTPS, OTHER], ALWAYS),
    ("render worker", "user's pod", &[OTHER], ALWAYS),
    ("render collector", "outside", &[HTTPS], ALWAYS),
];

/// All parties by name, and the policies of the batches.
struct Cluster {
    parties: BTreeMap<String, Party>,
    policies: Vec<NetworkPolicy>,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            parties: BTreeMap::new(),
            policies: Vec::new(),
        };
        let render = cluster.add_batch("render", "films", 1);
        cluster.add_batch("cut", "films", 2);
        cluster.add_batch("ads", "ads", 3);
        let deployment: Deployment = only(DEPLOY, "Deployment");
        let operator = deployment.spec.unwrap().template.metadata.unwrap().labels.unwrap();
        let named = |name: &str| Labels::from([("app.kubernetes.io/name".to_owned(), name.to_owned())]);
        for (name, namespace, labels) in [
            ("operator", "harmony-system", operator.clone()),
            ("impostor of the operator", "films", operator),
            ("neighbour of the operator", "harmony-system", named("other")),
            ("user's pod", "films", named("web")),
            ("trace receiver", "observability", named("otel-collector")),
            ("impostor of a worker", "films", render.clone()),
            ("impostor of a worker in ads", "ads", render),
            ("prometheus", "monitoring", named("prometheus")),
            ("neighbour of prometheus", "monitoring", named("grafana")),
            ("dns", "kube-system", named("coredns")),
        ] {
            cluster.parties.insert(name.to_owned(), Party::pod(namespace, labels));
        }
        for (name, address) in [
            ("API server", Ipv4Addr::new(10, 0, 0, 1)),
            ("source host", Ipv4Addr::new(192, 0, 2, 7)),
            ("outside", Ipv4Addr::new(198, 51, 100, 9)),
        ] {
            cluster.parties.insert(name.to_owned(), Party::Host(address));
        }
        cluster
    }

    /// Adds a batch's worker, collector and policies. Gives the worker's labels.
    fn add_batch(&mut self, name: &str, namespace: &str, number: u8) -> Labels {
        let mut object = resource(name, SMALL);
        object.metadata.namespace = Some(namespace.to_owned());
        object.metadata.uid = Some(format!("6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a{number:02x}"));
        let batch = validate(&object, Dereferenced::default()).unwrap();
        let settings = settings(Links::InsecureTcp);
        let resources = build(&batch, &settings);
        let worker = worker_pod(&batch, &settings, 0, 0).metadata.labels.unwrap();
        let collector = resources.collector.metadata.labels.unwrap();
        for (role, labels) in [("worker", worker.clone()), ("collector", collector)] {
            self.parties
                .insert(format!("{name} {role}"), Party::pod(namespace, labels));
        }
        self.policies.extend(resources.network_policies);
        worker
    }

    /// The flows that are not as the table says, of all in one of its columns.
    fn surprises(&self, policies: &[NetworkPolicy], column: Column) -> Vec<String> {
        let rows = FLOWS.iter().flat_map(|(from, to, ports, verdict)| {
            let expected = column(verdict);
            ports.iter().map(move |port| (*from, *to, *port, expected))
        });
        let surprising = rows.filter(|(from, to, port, expected)| {
            allowed(policies, &self.parties[*from], &self.parties[*to], *port) != *expected
        });
        let told = surprising.map(|(from, to, port, expected)| format!("{from} -> {to} {port:?}: not {expected}"));
        told.collect()
    }
}

/// The chart's policy, and which column of the table is for it.
fn columns() -> [(Vec<NetworkPolicy>, Column); 2] {
    let policies = |path| of_kind(path, "NetworkPolicy");
    [
        (policies(DEPLOY), |verdict| verdict.0),
        (policies(NARROW), |verdict| verdict.1),
    ]
}

#[test]
fn every_flow_is_as_the_table_says() {
    let cluster = Cluster::new();
    for (charts, column) in columns() {
        assert_eq!(charts.len(), 1);
        let policies = [cluster.policies.clone(), charts].concat();
        assert_eq!(cluster.surprises(&policies, column), Vec::<String>::new());
    }
}

/// The table would tell if any policy, or any rule of one, were not there or were for any port.
#[test]
fn the_table_notices_every_change_of_a_policy() {
    let cluster = Cluster::new();
    let [(default, column), (narrow, narrow_column)] = columns();
    let policies = [default, cluster.policies.clone()].concat();
    // The chart's, and the first batch's two.
    for at in 0..3 {
        assert_noticed(&cluster, &policies, at, column);
    }
    let policies = [narrow, cluster.policies.clone()].concat();
    assert_noticed(&cluster, &policies, 0, narrow_column);
}

#[track_caller]
fn assert_noticed(cluster: &Cluster, policies: &[NetworkPolicy], at: usize, column: Column) {
    for (what, changed) in changes(policies, at) {
        let surprises = cluster.surprises(&changed, column);
        assert!(!surprises.is_empty(), "{what} of {:?}", policies[at].metadata.name);
    }
}

/// The policies without one, and with one of its rules gone or opened.
fn changes(policies: &[NetworkPolicy], at: usize) -> Vec<(String, Vec<NetworkPolicy>)> {
    let spec = policies[at].spec.as_ref().unwrap();
    let changed = |what: String, change: &dyn Fn(&mut NetworkPolicy)| {
        let mut policies = policies.to_vec();
        change(&mut policies[at]);
        (what, policies)
    };
    let mut all = vec![changed("all".to_owned(), &|policy| {
        policy.metadata.namespace = Some("nowhere".to_owned());
    })];
    for rule in 0..spec.ingress.iter().flatten().count() {
        all.push(changed(format!("ingress {rule}"), &|policy| {
            policy.spec.as_mut().unwrap().ingress.as_mut().unwrap().remove(rule);
        }));
        all.push(changed(format!("ingress {rule}, any port"), &|policy| {
            policy.spec.as_mut().unwrap().ingress.as_mut().unwrap()[rule].ports = None;
        }));
    }
    for rule in 0..spec.egress.iter().flatten().count() {
        all.push(changed(format!("egress {rule}"), &|policy| {
            policy.spec.as_mut().unwrap().egress.as_mut().unwrap().remove(rule);
        }));
        all.push(changed(format!("egress {rule}, any port"), &|policy| {
            policy.spec.as_mut().unwrap().egress.as_mut().unwrap()[rule].ports = None;
        }));
    }
    all
}

mod evaluator {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    /// Whether a flow to port 80 is allowed from `a` in the namespace `x` to `b` in `y`, under one policy.
    fn judge(namespace: &str, spec: &str) -> bool {
        let yaml = format!("{{metadata: {{namespace: {namespace}}}, spec: {spec}}}");
        let policy: NetworkPolicy = serde_saphyr::from_str(&yaml).unwrap();
        let from = Party::pod("x", labels(&[("app", "a")]));
        let to = Party::pod("y", labels(&[("app", "b")]));
        allowed(&[policy], &from, &to, HTTP)
    }

    #[test]
    fn only_what_a_policy_selects_is_closed() {
        assert!(judge("y", "{podSelector: {matchLabels: {app: other}}}"));
        assert!(judge("elsewhere", "{podSelector: {}}"));
        assert!(!judge("y", "{podSelector: {}}"), "no rule lets anybody in");
        assert!(!judge("y", "{podSelector: {matchLabels: {app: b}}}"));
    }

    #[test]
    fn a_policy_is_for_ingress_and_for_egress_if_it_says_so() {
        assert!(judge("x", "{podSelector: {}}"), "the sender may be closed to others");
        assert!(!judge("x", "{podSelector: {}, policyTypes: [Egress]}"));
        assert!(!judge("x", "{podSelector: {}, egress: [{ports: [{port: 81}]}]}"));
        assert!(judge("y", "{podSelector: {}, policyTypes: [Egress]}"));
    }

    #[test]
    fn a_peer_is_of_its_own_namespace_unless_it_names_others() {
        let ingress = |peer: &str| judge("y", &format!("{{podSelector: {{}}, ingress: [{{from: [{peer}]}}]}}"));
        assert!(!ingress("{podSelector: {matchLabels: {app: a}}}"));
        assert!(ingress("{namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}"));
        assert!(!ingress(
            "{namespaceSelector: {}, podSelector: {matchLabels: {app: c}}}"
        ));
        assert!(ingress(
            "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: x}}}"
        ));
        assert!(!ingress(
            "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}"
        ));
        assert!(!ingress("{ipBlock: {cidr: 0.0.0.0/0}}"), "pods are named by labels");
    }

    #[test]
    fn labels_are_compared_as_selectors_say() {
        let ingress = |expression: &str| {
            let selector = format!("{{matchExpressions: [{expression}]}}");
            judge("y", &format!("{{podSelector: {selector}}}"))
        };
        // What is selected is closed.
        assert!(
            !ingress("{key: app, operator: In, values: [b, c]}") && ingress("{key: app, operator: In, values: [c]}")
        );
        assert!(
            !ingress("{key: app, operator: NotIn, values: [c]}") && ingress("{key: app, operator: NotIn, values: [b]}")
        );
        assert!(!ingress("{key: app, operator: Exists}") && ingress("{key: no, operator: Exists}"));
        assert!(!ingress("{key: no, operator: DoesNotExist}") && ingress("{key: app, operator: DoesNotExist}"));
    }

    #[test]
    fn ports_are_of_a_protocol_and_may_be_a_range() {
        let ingress = |port: &str| judge("y", &format!("{{podSelector: {{}}, ingress: [{{ports: [{port}]}}]}}"));
        assert!(ingress("{port: 80}") && ingress("{protocol: TCP}") && ingress("{port: 79, endPort: 81}"));
        assert!(!ingress("{port: 81}") && !ingress("{port: 80, protocol: UDP}") && !ingress("{port: 81, endPort: 90}"));
    }

    #[test]
    fn blocks_are_of_addresses_but_for_their_exceptions() {
        let egress = "{metadata: {namespace: x}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: \
                      {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]}]}}";
        let policy: NetworkPolicy = serde_saphyr::from_str(egress).unwrap();
        let reaches = |last| {
            let host = Party::Host(Ipv4Addr::new(192, 0, 2, last));
            allowed(
                std::slice::from_ref(&policy),
                &Party::pod("x", Labels::new()),
                &host,
                HTTP,
            )
        };
        assert!(reaches(7) && !reaches(200));
        let other = Party::Host(Ipv4Addr::new(192, 0, 3, 7));
        assert!(!allowed(&[policy], &Party::pod("x", Labels::new()), &other, HTTP));
    }

    #[test]
    fn several_policies_add_up() {
        let policy = |port| {
            let yaml = format!(
                "{{metadata: {{namespace: y}}, spec: {{podSelector: {{}}, ingress: [{{ports: [{{port: {port}}}]}}]}}}}"
            );
            serde_saphyr::from_str::<NetworkPolicy>(&yaml).unwrap()
        };
        let (from, to) = (Party::pod("x", Labels::new()), Party::pod("y", Labels::new()));
        assert!(allowed(&[policy(81), policy(80)], &from, &to, HTTP));
        assert!(!allowed(&[policy(81), policy(82)], &from, &to, HTTP));
    }
}
