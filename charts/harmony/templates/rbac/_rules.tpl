{{/* What the operator does in the namespaces whose batches it runs. */}}
{{- define "harmony.rules" -}}
# The controller watches batches; one that outlives its ttlSecondsAfterFinished is deleted.
- apiGroups: [harmony.dev]
  resources: [harmonybatches]
  verbs: [list, watch, delete]
# update_status: at most one patch per batch in 5 seconds, besides changes of conditions.
- apiGroups: [harmony.dev]
  resources: [harmonybatches/status]
  verbs: [patch]
# The fleet makes worker pods and deletes those that ended; apply makes the collector's pod. Both are watched.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, create, delete]
# apply: the collector's Service.
- apiGroups: [""]
  resources: [services]
  verbs: [create]
# apply: the collector's claim. dereference: whether the claims that a template names are there.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create]
# apply: who may reach the pods of a batch.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create]
# apply: how many workers a drain may take at once.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create]
# dereference: the tasks of tasks.configMapRef, and whether the ConfigMaps that a template names are there.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
# events: what happens to a batch, and again what happens often.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* What people who may view a namespace may see. */}}
{{- define "harmony.viewRules" -}}
- apiGroups: [harmony.dev]
  resources: [harmonybatches, harmonybatches/status, harmonybatches/scale]
  verbs: [get, list, watch]
{{- end -}}

{{/* What people who may edit a namespace may do. */}}
{{- define "harmony.editRules" -}}
- apiGroups: [harmony.dev]
  resources: [harmonybatches]
  verbs: [create, update, patch, delete, deletecollection]
- apiGroups: [harmony.dev]
  resources: [harmonybatches/scale]
  verbs: [update, patch]
{{- end -}}
