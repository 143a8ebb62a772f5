{{- define "embedding-drift.operatorLabels" -}}
{{ include "embedding-drift.labels" . }}
{{- with .Values.prometheusOperator.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Rules whose links lead to this exporter, its runbook and its dashboard: see rules/render.py. Takes a dict:
root, text. */}}
{{- define "embedding-drift.linked" -}}
{{- $alerting := .root.Values.config.alerting | default dict -}}
{{- $exporter := printf "%s/" (include "embedding-drift.exporterUrl" .root | trimSuffix "/") -}}
{{- $model := printf "%sdrift/" $exporter -}}
{{- with $alerting.dashboard_url -}}
{{- $model = printf "%s%svar-model_name=" . (contains "?" . | ternary "&" "?") -}}
{{- end -}}
{{- $runbook := $alerting.runbook_url | default (printf "%srunbook" $exporter) -}}
{{ .text
  | replace "http://127.0.0.1:10910/runbook#" (printf "%s#" $runbook)
  | replace "http://127.0.0.1:10910/drift/" $model
  | replace "http://127.0.0.1:10910/" $exporter }}
{{- end }}

{{- /* Thresholds that single models override. */}}
{{- define "embedding-drift.overrides" -}}
{{- range $model, $own := (.Values.config.monitoring | default dict).models }}
{{- range $threshold, $key := dict "magnitude_warning" "drift_threshold" "magnitude_critical" "alert_threshold" }}
{{- with get ($own | default dict) $key }}
- record: model:embedding_drift_{{ $threshold }}:override
  expr: vector({{ . }})
  labels: {model_name: {{ $model | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
