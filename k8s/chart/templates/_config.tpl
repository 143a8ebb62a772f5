{{- /* Where links lead: the address for people, or a port that `kubectl port-forward` opens. */}}
{{- define "embedding-drift.exporterUrl" -}}
{{ .Values.config | dig "alerting" "exporter_url" (.Values.externalUrl | default (include "embedding-drift.forwardedUrl" .)) }}
{{- end }}

{{- define "embedding-drift.forwardedUrl" -}}
{{ .Values.scheme }}://127.0.0.1:10910
{{- end }}

{{- define "embedding-drift.portForward" -}}
kubectl port-forward --namespace {{ .Release.Namespace }} service/{{ include "embedding-drift.fullname" . }}-exporter 10910
{{- end }}

{{- /* The configuration file: the given one over what the pods need. */}}
{{- define "embedding-drift.config" -}}
{{- if .Values.config | dig "server" "port" "" -}}
{{- fail "config.server.port: the chart sets the ports" -}}
{{- end -}}
{{- range $key := list "connection_string" "admin_connection_string" "replica_connection_string" -}}
{{- if $.Values.config | dig "database" $key "" -}}
{{- fail (printf "config.database.%s: the configuration is no secret; use database.existingSecret, or EMBEDDING_DRIFT_DATABASE_%s_FILE in extraEnv with extraVolumes" $key (upper $key)) -}}
{{- end -}}
{{- end -}}
{{- if .Values.config | dig "alerting" "slack_webhook" "" -}}
{{- fail "config.alerting.slack_webhook: the configuration is no secret; use alertmanagerConfig.existingSecret" -}}
{{- end -}}
{{- $needed := dict
  "server" (dict "host" "0.0.0.0")
  "log" (dict "format" "json")
  "alerting" (dict "exporter_url" (include "embedding-drift.exporterUrl" .)) -}}
{{ toYaml (mergeOverwrite $needed (deepCopy .Values.config)) }}
{{- end }}

{{- /* Host of the address for people. */}}
{{- define "embedding-drift.host" -}}
{{- required "ingress and httpRoute need externalUrl, such as https://drift.example.org" .Values.externalUrl | urlParse | dig "host" "" | splitList ":" | first -}}
{{- end }}
