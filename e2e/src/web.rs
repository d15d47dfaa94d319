//! A web server for tasks behind a URL.

use anyhow::Result;

use crate::Scenario;

const POD: &str = r#"---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: www, emptyDir: {}}]
  initContainers:
    - name: write
      image: shell:dev
      command: [sh, -c, 'eval "$WRITE" > /www/lines.txt']
      env: [{name: WRITE, value: WRITE_COMMAND}]
      securityContext: &safe {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: &mounts [{name: www, mountPath: /www}]
  containers:
    - name: web
      image: shell:dev
      command: [httpd, -f, -p, '8080', -h, /www]
      securityContext: *safe
      volumeMounts: *mounts
      readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// What the server serves, in its pod `web`.
pub const SERVED: &str = "/www/lines.txt";

impl Scenario {
    /// Starts a server of what a shell command prints, waits until it has printed it, and gives its address. What is in
    /// [`SERVED`] may be changed.
    pub async fn serve(&self, command: &str) -> Result<String> {
        let quoted = serde_json::to_string(command)?;
        self.apply(&POD.replace("WRITE_COMMAND", &quoted)).await?;
        let wait = ["wait", "pod/web", "--for=condition=Ready", "--timeout=300s"];
        self.kubectl(&wait).await?;
        Ok(format!("http://web.{}.svc.cluster.local/lines.txt", self.namespace))
    }
}
