//! Pod Security "restricted", and "baseline" which it holds, as the documentation of Kubernetes lists their controls.

use k8s_openapi::api::core::v1::{Capabilities, Container, PodSpec, SeccompProfile, Volume};

/// What a pod does that the profile forbids.
pub(crate) fn violations(pod: &PodSpec) -> Vec<String> {
    let mut violations = Vec::new();
    let mut forbid = |broken: bool, what: &str| {
        if broken {
            violations.push(what.to_owned());
        }
    };
    forbid(pod.host_network == Some(true), "hostNetwork");
    forbid(pod.host_pid == Some(true), "hostPID");
    forbid(pod.host_ipc == Some(true), "hostIPC");
    let context = pod.security_context.clone().unwrap_or_default();
    forbid(context.run_as_user == Some(0), "pod runAsUser");
    forbid(context.run_as_non_root == Some(false), "pod runAsNonRoot");
    forbid(unsafe_profile(context.seccomp_profile.as_ref()), "pod seccompProfile");
    forbid(context.sysctls.is_some_and(|sysctls| !sysctls.is_empty()), "sysctls");
    for volume in pod.volumes.iter().flatten() {
        forbid(!allowed(volume), &format!("volume {}", volume.name));
    }
    let pod_profile = context.seccomp_profile.is_some();
    let pod_non_root = context.run_as_non_root == Some(true);
    for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
        let of_container = of_container(container, pod_profile, pod_non_root);
        violations.extend(
            of_container
                .into_iter()
                .map(|what| format!("{}: {what}", container.name)),
        );
    }
    violations
}

fn of_container(container: &Container, pod_profile: bool, pod_non_root: bool) -> Vec<&'static str> {
    let context = container.security_context.clone().unwrap_or_default();
    let profile = context.seccomp_profile.as_ref();
    let ports = container.ports.iter().flatten();
    let checks = [
        (context.privileged == Some(true), "privileged"),
        (
            context.allow_privilege_escalation != Some(false),
            "allowPrivilegeEscalation",
        ),
        (!bounded(context.capabilities.as_ref()), "capabilities"),
        (!context.run_as_non_root.unwrap_or(pod_non_root), "runAsNonRoot"),
        (context.run_as_user == Some(0), "runAsUser"),
        (
            unsafe_profile(profile) || profile.is_none() && !pod_profile,
            "seccompProfile",
        ),
        (context.proc_mount.is_some_and(|mount| mount != "Default"), "procMount"),
        (
            ports
                .into_iter()
                .any(|port| port.host_port.is_some_and(|port| port != 0)),
            "hostPort",
        ),
    ];
    checks
        .into_iter()
        .filter(|(broken, _)| *broken)
        .map(|(_, what)| what)
        .collect()
}

fn bounded(capabilities: Option<&Capabilities>) -> bool {
    let Some(capabilities) = capabilities else {
        return false;
    };
    let all_dropped = capabilities.drop.iter().flatten().any(|capability| capability == "ALL");
    all_dropped
        && capabilities
            .add
            .iter()
            .flatten()
            .all(|capability| capability == "NET_BIND_SERVICE")
}

fn unsafe_profile(profile: Option<&SeccompProfile>) -> bool {
    profile.is_some_and(|profile| !["RuntimeDefault", "Localhost"].contains(&profile.type_.as_str()))
}

fn allowed(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.image.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some()
}
