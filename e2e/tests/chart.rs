//! The chart by real Helm: installed, tried, upgraded and removed; for the whole cluster and for one namespace.
//!
//! Each test takes away what is installed and brings it back, so they run one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harmony_api::conditions::PROGRESSING;
use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{
    OPERATOR_NAMESPACE, RELEASE, Scenario, all_right, batch, chart, condition, eventually, helm, kubectl,
    kubectl_reading, on_release, scenario, without_harmony,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::Api;
use kube::api::PostParams;

/// The operator's user, to the API server.
const OPERATOR: &str = "system:serviceaccount:harmony-system:harmony-operator";
/// Somebody without rights at first.
const USER: &str = "ann";
const COMPLETE_WITHIN: Duration = Duration::from_mins(2);
/// The API server aggregates roles, and forgets what it allowed, a moment later.
const RIGHTS_WITHIN: Duration = Duration::from_mins(1);
/// What the release makes, besides the definition.
const KINDS: &str = "deployments,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,networkpolicies,\
                     poddisruptionbudgets,pods,configmaps";
/// A few tasks whose results are known.
const SHORT: &str = "completions: 4\nexecutor: {exec: {command: [sh, -c, 'echo $HARMONY_TASK']}}";

/// Whether a user may do something, in a namespace or in all of them.
async fn may(test: &Scenario, user: &str, verb: &str, kind: (&str, &str), namespace: Option<&str>) -> Result<bool> {
    let (resource, subresource) = kind.1.split_once('/').unwrap_or((kind.1, ""));
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(kind.0.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(test.client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.context("no answer")?.allowed)
}

/// Lets the user have a role, and create a batch by it.
async fn let_run_batches(test: &Scenario, role: &str, name: &str) -> Result<()> {
    let kind = ("harmony.dev", "harmonybatches");
    ensure!(!may(test, USER, "create", kind, Some(&test.namespace)).await?);
    test.kubectl(&["create", "rolebinding", "batches", role, &format!("--user={USER}")])
        .await?;
    eventually("the user to have the right", RIGHTS_WITHIN, async || {
        ensure!(may(test, USER, "create", kind, Some(&test.namespace)).await?);
        Ok(())
    })
    .await?;
    let create = ["create", "--as", USER, "--namespace", &test.namespace, "--filename=-"];
    kubectl_reading(&create, &batch(name, SHORT)).await?;
    test.wait_complete(name, COMPLETE_WITHIN).await?;
    all_right(&test.results(name).await?, 4, |number| format!("{number}\n"))
}

/// What of the release is there, in all namespaces.
async fn there() -> Result<Vec<String>> {
    let selector = format!("app.kubernetes.io/instance={RELEASE}");
    let found = kubectl(&[
        "get",
        KINDS,
        "--all-namespaces",
        "--selector",
        &selector,
        "--output=name",
    ])
    .await?;
    Ok(found.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn installed_tried_upgraded_and_removed() -> Result<()> {
    without_harmony(async |test| {
        let chart = chart()?;
        on_release(&["install", RELEASE, &chart], &["--wait"]).await?;
        let said = on_release(&["test", RELEASE], &["--logs"]).await?;
        ensure!(said.contains("Phase:          Succeeded"), "{said}");
        // Not content with the success of the first time.
        on_release(&["test", RELEASE], &[]).await?;
        let_run_batches(test, "--clusterrole=edit", "of-a-user").await?;

        let values = [
            "--set=operator.replicas=1",
            "--set=sourceHosts={data.example.org}",
            "--wait",
        ];
        on_release(&["upgrade", RELEASE, &chart], &values).await?;
        let deployments: Api<Deployment> = Api::namespaced(test.client.clone(), OPERATOR_NAMESPACE);
        let upgraded = deployments.get("harmony-operator").await?.spec.context("no spec")?;
        ensure!(upgraded.replicas == Some(1), "{upgraded:?}");
        elsewhere_is_refused(test).await?;
        test.apply(&batch("after", SHORT)).await?;
        test.wait_complete("after", COMPLETE_WITHIN).await?;

        on_release(&["uninstall", RELEASE], &["--wait"]).await?;
        eventually("the release to be gone", COMPLETE_WITHIN, async || {
            let left = there().await?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
        // The definition is kept, and what is recorded with it.
        all_right(&test.results("after").await?, 4, |number| format!("{number}\n"))
    })
    .await
}

/// A batch that reads its tasks from a host that is not allowed waits, and says what to do.
async fn elsewhere_is_refused(test: &Scenario) -> Result<()> {
    let fields = "tasks: {lines: {url: 'https://other.example.org/lines'}}\nexecutor: {exec: {command: [cat]}}";
    test.apply(&batch("elsewhere", fields)).await?;
    test.wait_for(
        "the host to be refused",
        COMPLETE_WITHIN,
        "elsewhere",
        |batch: &HarmonyBatch| {
            let progressing = condition(batch, PROGRESSING).context("no condition")?;
            ensure!(
                progressing.status == "False" && progressing.reason == "TasksSourceUnavailable",
                "{progressing:?}"
            );
            let message = &progressing.message;
            for word in [
                "other.example.org is not among the hosts",
                "sourceHosts",
                "--source-host",
            ] {
                ensure!(message.contains(word), "{message}");
            }
            Ok(())
        },
    )
    .await?;
    test.kubectl(&["delete", "hb/elsewhere"]).await.map(drop)
}

#[tokio::test]
async fn values_that_are_wrong_are_refused_before_anything_is_made() -> Result<()> {
    let chart = chart()?;
    for (value, words) in [
        ("operator.replicas=many", ["/operator/replicas", "want integer"]),
        ("operator.replicas=0", ["/operator/replicas", "minimum"]),
        ("replicaCount=3", ["replicaCount", "not allowed"]),
        ("image.digest=latest", ["/image/digest", "pattern"]),
        ("rbac.scope=galaxy", ["/rbac/scope", "'cluster', 'namespaced'"]),
        ("watchNamespaces={a}", ["watchNamespaces", "rbac.scope: namespaced"]),
        ("serviceAccount.create=false", ["serviceAccount.name", "which one"]),
    ] {
        let refused = helm(&["template", RELEASE, &chart, "--set", value]).await;
        let Err(refused) = refused else {
            bail!("{value} is taken");
        };
        let message = refused.to_string();
        ensure!(words.iter().all(|word| message.contains(word)), "{value}: {message}");
    }
    helm(&["lint", "--strict", &chart]).await.map(drop)
}

#[tokio::test]
async fn in_namespaced_scope_a_role_is_enough() -> Result<()> {
    without_harmony(async |test| {
        scenario(async |other| {
            let watched = format!("--set=watchNamespaces={{{}}}", test.namespace);
            // One that it may not read keeps it from no other.
            let closed = "--set=operator.extraArgs={--watch-namespace=kube-system}";
            let values = ["--set=rbac.scope=namespaced", &watched, closed, "--wait"];
            on_release(&["install", RELEASE, &chart()?], &values).await?;
            let made = there().await?;
            ensure!(!made.iter().any(|name| name.starts_with("clusterrole")), "{made:?}");
            no_right_beyond(test, other).await?;

            other.apply(&batch("unseen", SHORT)).await?;
            on_release(&["test", RELEASE], &[]).await?;
            let_run_batches(test, "--role=harmony-edit", "of-a-user").await?;
            let unseen: HarmonyBatch = other.api().get("unseen").await?;
            ensure!(unseen.status.is_none(), "{:?}", unseen.status);
            Ok(())
        })
        .await
    })
    .await
}

/// All that the operator may do in the watched namespace it may do nowhere else.
async fn no_right_beyond(test: &Scenario, other: &Scenario) -> Result<()> {
    let role: Role = test.api().get("harmony-operator-batches").await?;
    let mut asked = 0;
    for rule in role.rules.unwrap_or_default() {
        for (verb, group, resource) in pairs(&rule) {
            let kind = (group.as_str(), resource.as_str());
            ensure!(
                may(test, OPERATOR, &verb, kind, Some(&test.namespace)).await?,
                "{verb} {kind:?}"
            );
            for place in [
                None,
                Some(other.namespace.as_str()),
                Some(OPERATOR_NAMESPACE),
                Some("kube-system"),
            ] {
                let allowed = may(test, OPERATOR, &verb, kind, place).await?;
                ensure!(!allowed, "{verb} {kind:?} in {place:?}");
                asked += 1;
            }
        }
    }
    println!("{asked} questions about rights elsewhere, each answered no");
    ensure!(asked > 50, "{asked}");
    Ok(())
}

/// What a rule allows, one by one.
fn pairs(rule: &PolicyRule) -> BTreeSet<(String, String, String)> {
    let mut pairs = BTreeSet::new();
    for verb in &rule.verbs {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                pairs.insert((verb.clone(), group.clone(), resource.clone()));
            }
        }
    }
    pairs
}
