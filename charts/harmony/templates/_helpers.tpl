{{/* What all names begin with: the release's name, which says harmony. */}}
{{- define "harmony.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "harmony.operator" -}}
{{- include "harmony.fullname" . }}-operator
{{- end -}}

{{- define "harmony.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "harmony.operator" .) -}}
{{- end -}}

{{- define "harmony.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* By these the policies of batches know the operator's pods: they are not to be changed. */}}
{{- define "harmony.selector" -}}
app.kubernetes.io/name: harmony
app.kubernetes.io/component: operator
{{- end -}}

{{- define "harmony.commonLabels" -}}
app.kubernetes.io/name: harmony
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "harmony.labels" -}}
{{ include "harmony.commonLabels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "harmony.isNamespaced" -}}
{{- if eq .Values.rbac.scope "namespaced" }}true{{ end -}}
{{- end -}}

{{/* The watched namespaces as a JSON list. Only in namespaced scope. */}}
{{- define "harmony.watched" -}}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}

{{/* Pod Security "restricted". */}}
{{- define "harmony.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "harmony.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "harmony.pullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What a schema cannot say well. */}}
{{- define "harmony.check" -}}
{{- if and .Values.watchNamespaces (ne .Values.rbac.scope "namespaced") -}}
{{- fail "watchNamespaces is only for rbac.scope: namespaced; set that too, or leave the namespaces out" -}}
{{- end -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false, so serviceAccount.name must say which one there is" -}}
{{- end -}}
{{- end -}}

{{/* Whether something for the Prometheus operator is made: true, false, or "auto", which is where its kinds are known. */}}
{{- define "harmony.where" -}}
{{- $enabled := first . -}}
{{- if eq (toString $enabled) "auto" -}}
{{- $enabled = (last .).Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}
{{- end -}}
{{- if $enabled }}true{{ end -}}
{{- end -}}

{{- define "harmony.podMonitor" -}}
{{- include "harmony.where" (list .Values.monitoring.podMonitor.enabled .) -}}
{{- end -}}
