{{- /* The pods of both halves. Takes a dict: root, half ("ingest" or "exporter"), values (of the half), args, port,
env (more variables), initContainers, volumes, volumeMounts (texts). */}}
{{- define "embedding-drift.pod" -}}
{{- $root := .root -}}
{{- $half := .half -}}
{{- $selecting := append (include "embedding-drift.selectorLabels" $root | fromYaml | keys | sortAlpha) "app.kubernetes.io/component" -}}
{{- range $key := $selecting -}}
{{- if hasKey ($.values.podLabels | default dict) $key -}}
{{- fail (printf "%s.podLabels: %s is set by the chart, which finds its pods by it" $half $key) -}}
{{- end -}}
{{- end -}}
metadata:
  annotations:
    checksum/config: {{ include "embedding-drift.config" $root | sha256sum }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "embedding-drift.selectorLabels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .half }}
    {{- with .values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "embedding-drift.serviceAccountName" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # 5 s for preStop, 15 s for the requests in progress, and a reserve.
  terminationGracePeriodSeconds: 30
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- with .values.topologySpreadConstraints }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "embedding-drift.selectorLabels" $root | nindent 10 }}
      matchLabelKeys:
        - app.kubernetes.io/component
    {{- end }}
    {{- end }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  {{- with .initContainers }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: embedding-drift
      {{- include "embedding-drift.container" $root | nindent 6 }}
      args: [{{ .half }}]
      env:
        - name: EMBEDDING_DRIFT_CONFIG
          value: /etc/embedding-drift/config.yaml
        {{- include "embedding-drift.databaseEnv" $root | nindent 8 }}
        {{- .env | nindent 8 }}
        {{- with .values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: {{ .port }}
          protocol: TCP
      startupProbe:
        httpGet: {path: /-/healthy, port: http, scheme: {{ $root.Values.scheme | upper }}}
        periodSeconds: 2
        failureThreshold: 60
      # Does not depend on the database, because restarting a pod does not repair it.
      livenessProbe:
        httpGet: {path: /-/healthy, port: http, scheme: {{ $root.Values.scheme | upper }}}
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /-/ready, port: http, scheme: {{ $root.Values.scheme | upper }}}
        periodSeconds: 5
        timeoutSeconds: 5
      lifecycle:
        preStop:
          # New requests arrive until every node knows that the pod stops.
          sleep: {seconds: 5}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/embedding-drift, readOnly: true}
        {{- include "embedding-drift.databaseMount" $root | nindent 8 }}
        {{- with .volumeMounts }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "embedding-drift.fullname" $root }}
    {{- include "embedding-drift.databaseVolume" $root | nindent 4 }}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- /* Of every container of the program. */}}
{{- define "embedding-drift.container" -}}
image: {{ include "embedding-drift.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
# `kubectl describe pod` shows why the program ended.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}

{{- define "embedding-drift.databaseEnv" -}}
- name: EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING_FILE
  value: /run/secrets/embedding-drift-database/connection_string
{{- end }}

{{- define "embedding-drift.databaseMount" -}}
- {name: database, mountPath: /run/secrets/embedding-drift-database, readOnly: true}
{{- end }}

{{- define "embedding-drift.databaseVolume" -}}
- name: database
  secret:
    secretName: {{ include "embedding-drift.databaseSecret" . }}
    items:
      - {key: {{ .Values.database.cnpg.enabled | ternary "uri" "connection_string" }}, path: connection_string}
    # Without the secret the program starts and says which file is missing. Kubernetes would wait
    # without a word.
    optional: true
{{- end }}
