{{- define "embedding-drift.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* Prefix of all names. The longest suffix has 15 characters, and a name of a StatefulSet's pod has 63. A release may
have dots in its name, a Service may not. */}}
{{- define "embedding-drift.fullname" -}}
{{- $name := include "embedding-drift.name" . -}}
{{- $both := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- $prefix := default $both .Values.fullnameOverride | replace "." "-" | trunc 40 | regexFind "^.*[^-]" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $prefix) -}}
{{- fail (printf "%q is no prefix for the names of Services: it must begin with a letter, and may have only a-z, 0-9 and hyphens; set fullnameOverride, or choose another name for the release" $prefix) -}}
{{- end -}}
{{- $prefix -}}
{{- end }}

{{- define "embedding-drift.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "embedding-drift.fullname" .) "default") }}
{{- end }}

{{- define "embedding-drift.image" -}}
{{- with .Values.image -}}
{{ with .registry }}{{ . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* Secret with the connection string. CloudNativePG writes its own. */}}
{{- define "embedding-drift.databaseSecret" -}}
{{- if .Values.database.cnpg.enabled -}}
{{ include "embedding-drift.fullname" . }}-store-app
{{- else -}}
{{ .Values.database.existingSecret | default (printf "%s-database" (include "embedding-drift.fullname" .)) }}
{{- end }}
{{- end }}

{{- define "embedding-drift.tokensSecret" -}}
{{ .Values.tokens.existingSecret | default (printf "%s-tokens" (include "embedding-drift.fullname" .)) }}
{{- end }}

{{- define "embedding-drift.slackSecret" -}}
{{ .Values.alertmanagerConfig.existingSecret | default (printf "%s-slack" (include "embedding-drift.fullname" .)) }}
{{- end }}

{{- define "embedding-drift.isSharded" -}}
{{ gt (int .Values.exporter.shards) 1 | ternary "true" "" }}
{{- end }}

{{- /* Labels by which objects find each other. They must never change. */}}
{{- define "embedding-drift.selectorLabels" -}}
app.kubernetes.io/name: {{ include "embedding-drift.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "embedding-drift.labels" -}}
{{ include "embedding-drift.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Labels of the pods of the trial's PostgreSQL. They differ from those of the program's pods. */}}
{{- define "embedding-drift.trialLabels" -}}
app.kubernetes.io/name: postgresql
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Labels of the pod of `helm test`. No Service selects it. */}}
{{- define "embedding-drift.testLabels" -}}
{{ include "embedding-drift.selectorLabels" . }}
app.kubernetes.io/component: test
{{- end }}

{{- define "embedding-drift.testHook" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
