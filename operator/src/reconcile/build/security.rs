//! Pod Security "restricted" by default: fills what a template leaves open, and changes nothing that it says.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

/// The user and group of Harmony's own containers: what images without root commonly use.
pub(super) const OWN_USER: i64 = 65_532;
/// With these, the API server takes no `allowPrivilegeEscalation: false`.
const ESCALATING: [&str; 2] = ["SYS_ADMIN", "CAP_SYS_ADMIN"];

/// Fills the security contexts of a pod and of all its containers.
pub(super) fn restrict(pod: &mut PodSpec) {
    let context = pod.security_context.get_or_insert_default();
    context.seccomp_profile.get_or_insert_with(runtime_default);
    let context = context.clone();
    let inits = pod.init_containers.iter_mut().flatten();
    for container in inits.chain(&mut pod.containers) {
        fill(container, &context);
    }
}

fn fill(container: &mut Container, pod: &PodSecurityContext) {
    let context = container.security_context.get_or_insert_default();
    if context.privileged == Some(true) {
        return;
    }
    let added = context
        .capabilities
        .iter()
        .flat_map(|capabilities| capabilities.add.iter().flatten());
    if !added
        .into_iter()
        .any(|capability| ESCALATING.contains(&capability.as_str()))
    {
        context.allow_privilege_escalation.get_or_insert(false);
    }
    let capabilities = context.capabilities.get_or_insert_default();
    capabilities.drop.get_or_insert_with(|| vec!["ALL".to_owned()]);
    // On the container, since a pod that says it for all would stop those of its containers that ask for root.
    let user = context.run_as_user.or(pod.run_as_user);
    if pod.run_as_non_root.is_none() && user != Some(0) {
        context.run_as_non_root.get_or_insert(true);
    }
}

/// The security context of Harmony's own containers, complete, so that nothing of a template reaches them.
pub(super) fn own_container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(vec!["ALL".to_owned()]),
        }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_group: Some(OWN_USER),
        run_as_non_root: Some(true),
        run_as_user: Some(OWN_USER),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

pub(super) fn runtime_default() -> SeccompProfile {
    SeccompProfile {
        localhost_profile: None,
        type_: "RuntimeDefault".to_owned(),
    }
}
