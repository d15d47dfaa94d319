//! What all other tests take for granted: the cluster under test is a real one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join;
use harmony_e2e::{ApiRequests, Scenario, eventually, scenario};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::ListParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WITHIN: Duration = Duration::from_secs(30);

/// What Pod Security "restricted" asks of a pod.
const RESTRICTED: &str =
    "securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}";

/// And of a container.
const CONTAINER: &str =
    "image: shell:dev, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";

/// A pod that serves its own name at port 8080.
fn server(name: &str, node: &str) -> String {
    format!(
        r#"---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web}}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  {RESTRICTED}
  volumes: [{{name: www, emptyDir: {{}}}}]
  containers:
    - {{name: web, volumeMounts: [{{name: www, mountPath: /www}}], {CONTAINER},
       command: [sh, -c, "hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]}}
"#
    )
}

const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

async fn nodes(test: &Scenario) -> Result<Vec<String>> {
    let nodes = Api::<Node>::all(test.client.clone())
        .list(&ListParams::default())
        .await?;
    Ok(nodes.items.into_iter().filter_map(|node| node.metadata.name).collect())
}

async fn fetch(test: &Scenario, from: &str, address: &str) -> Result<String> {
    let url = format!("http://{address}/");
    let said = test
        .exec(from, &["timeout", "5", "wget", "-q", "-O", "-", &url])
        .await?;
    Ok(said.trim().to_owned())
}

fn address(pod: &Pod) -> Result<String> {
    let status = pod.status.as_ref().context("no status")?;
    Ok(format!("{}:8080", status.pod_ip.as_deref().context("no address")?))
}

#[tokio::test]
async fn pods_reach_each_other_across_nodes_by_address_service_and_name() -> Result<()> {
    scenario(async |test| {
        let nodes = nodes(test).await?;
        ensure!(nodes.len() >= 2, "one node only: {nodes:?}");
        let pods = server("one", &nodes[0]) + &server("two", &nodes[1]);
        test.apply(&(pods + SERVICE)).await?;
        let (one, two) = try_join(test.wait_for_ready("one"), test.wait_for_ready("two")).await?;
        assert_eq!(fetch(test, "one", &address(&two)?).await?, "two");
        assert_eq!(fetch(test, "two", &address(&one)?).await?, "one");
        let full = format!("web.{}.svc.cluster.local", test.namespace);
        for (from, to) in [("one", "two"), ("two", "one"), ("one", "one"), ("two", "two")] {
            let what = format!("{from} to reach {to} by the service");
            eventually(&what, WITHIN, async || {
                let by_short_name = fetch(test, from, "web").await?;
                ensure!(by_short_name == to, "{by_short_name} answered");
                Ok(())
            })
            .await?;
        }
        fetch(test, "one", &full).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_pod_that_is_not_restricted_is_refused() -> Result<()> {
    scenario(async |test| {
        let pod = "
apiVersion: v1
kind: Pod
metadata: {name: root}
spec: {containers: [{name: a, image: shell:dev}]}
";
        let error = test.apply(pod).await.unwrap_err().to_string();
        ensure!(error.contains("violates PodSecurity \"restricted"), "{error}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_claim_of_one_pod_gets_a_local_volume() -> Result<()> {
    scenario(async |test| {
        test.apply(&format!(
            r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec: {{storageClassName: local, accessModes: [ReadWriteOncePod], resources: {{requests: {{storage: 1Gi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: writer}}
spec:
  {RESTRICTED}
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
  containers:
    - {{name: a, volumeMounts: [{{name: data, mountPath: /data}}], {CONTAINER},
       command: [sh, -c, "ls /data > /data/before && exec sleep 1000"]}}
"#
        ))
        .await?;
        test.wait_for_ready("writer").await?;
        let before = test.exec("writer", &["cat", "/data/before"]).await?;
        assert_eq!(before, "before\n", "the volume was not empty");
        test.wait_for("the claim", WITHIN, "data", |claim: &PersistentVolumeClaim| {
            let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
            ensure!(phase == Some("Bound"), "{phase:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_port_forward_reaches_a_pods_loopback() -> Result<()> {
    scenario(async |test| {
        let nodes = nodes(test).await?;
        for (pod, node) in ["one", "two"].into_iter().zip(&nodes) {
            test.apply(&server(pod, node).replace("-p 8080", "-p 127.0.0.1:8080"))
                .await?;
            test.wait_for_ready(pod).await?;
            let answer = eventually("an answer", WITHIN, async || {
                let mut forward = test.api::<Pod>().portforward(pod, &[8080]).await?;
                let mut stream = forward.take_stream(8080).context("no stream")?;
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await?;
                ensure!(!answer.is_empty(), "nothing");
                Ok(answer)
            })
            .await?;
            ensure!(answer.ends_with(&format!("\r\n\r\n{pod}\n")), "{answer:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_api_servers_requests_are_counted() -> Result<()> {
    scenario(async |test| {
        let labels = [("resource", "configmaps"), ("verb", "GET"), ("code", "404")];
        let before = ApiRequests::now().await?;
        for name in ["one", "two", "three"] {
            test.kubectl(&["get", "configmap", name]).await.unwrap_err();
        }
        let counted = ApiRequests::now().await?.since(&before, &labels);
        ensure!(counted >= 3.0, "{counted} of 3");
        Ok(())
    })
    .await
}

/// The images under which tests run differ in their user only.
#[tokio::test]
async fn an_images_user_is_kept() -> Result<()> {
    scenario(async |test| {
        test.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: numeric}}
spec:
  securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
  containers: [{{name: a, {}, command: [sleep, '1000']}}]
",
            CONTAINER.replace("shell:dev", "numeric:dev")
        ))
        .await?;
        test.wait_for_ready("numeric").await?;
        let user = test.exec("numeric", &["id", "-u"]).await?;
        assert_eq!(user, "1234\n");
        Ok(())
    })
    .await
}
