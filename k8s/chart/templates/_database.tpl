{{- /* Fails if more than one database is given. A trial may have a secret with its password. */}}
{{- define "embedding-drift.checkDatabase" -}}
{{- with .Values.database -}}
{{- $given := compact (list .existingSecret .connectionString (ternary "cnpg" "" .cnpg.enabled)) -}}
{{- if or (gt (len $given) 1) (and .trial.enabled (or .connectionString .cnpg.enabled)) -}}
{{- fail "database: give only one of existingSecret, connectionString, trial and cnpg; trial may have an existingSecret" -}}
{{- end -}}
{{- end -}}
{{- end }}
