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
{{- range $key := list "shard" "total_shards" -}}
{{- if hasKey ($.Values.config.monitoring | default dict) $key -}}
{{- fail (printf "config.monitoring.%s: the chart sets the shards; use exporter.shards" $key) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "connection_string" "admin_connection_string" "replica_connection_string" -}}
{{- if $.Values.config | dig "database" $key "" -}}
{{- fail (printf "config.database.%s: the configuration is no secret; use database.existingSecret, or EMBEDDING_DRIFT_DATABASE_%s_FILE in extraEnv with extraVolumes" $key (upper $key)) -}}
{{- end -}}
{{- end -}}
{{- if .Values.config | dig "alerting" "slack_webhook" "" -}}
{{- fail "config.alerting.slack_webhook: the configuration is no secret; use alertmanagerConfig.existingSecret" -}}
{{- end -}}
{{- /* `helm test` waits for its only vector, so a share of that model would lose it. */ -}}
{{- $needed := dict
  "server" (dict "host" "0.0.0.0")
  "log" (dict "format" "json")
  "alerting" (dict "exporter_url" (include "embedding-drift.exporterUrl" .))
  "ingest" (dict "models" (dict "helm-test" (dict "sample_ratio" 1.0))) -}}
{{ toYaml (mergeOverwrite $needed (deepCopy .Values.config)) }}
{{- end }}

{{- /* Host of the address for people, as a browser sends it: in lower case, and without the port. */}}
{{- define "embedding-drift.host" -}}
{{- regexReplaceAll ":[0-9]*$" (.Values.externalUrl | urlParse | dig "host" "" | lower) "" -}}
{{- end }}

{{- /* The same host for an Ingress or a route. Kubernetes accepts only the name of a host there. */}}
{{- define "embedding-drift.routedHost" -}}
{{- $url := required "ingress and httpRoute need externalUrl, such as https://drift.example.org" .Values.externalUrl -}}
{{- $host := include "embedding-drift.host" . -}}
{{- $label := "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?" -}}
{{- $isName := and (le (len $host) 253) (regexMatch (printf "^%s([.]%s)*$" $label $label) $host) -}}
{{- if or (not $isName) (regexMatch "^[0-9.]+$" $host) -}}
{{- fail (printf "externalUrl: ingress and httpRoute need the name of a host, such as https://drift.example.org; they cannot use the host of %s" $url) -}}
{{- end -}}
{{- $host -}}
{{- end }}
