{{- /* What the pods of all processes share. */}}

{{- define "holdfast.labels" -}}
app.kubernetes.io/name: holdfast
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* Of one kind of process, for selectors. Takes [root, component]. */}}
{{- define "holdfast.selector" -}}
app.kubernetes.io/name: holdfast
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- /* Of each pod. No process talks to Kubernetes, so none gets a token. */}}
{{- define "holdfast.pod" -}}
automountServiceAccountToken: false
# The image's own user, `node`.
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: { sizeLimit: 64Mi }
{{- end }}

{{- /* Of each container. Takes [root, tag]. They write nothing but to the stores, and to /tmp. */}}
{{- define "holdfast.container" -}}
image: {{ printf "%s:%s" (required "image.repository: where the image was pushed to" (index . 0).Values.image.repository) (index . 1 | default (index . 0).Values.image.tag | default (index . 0).Chart.AppVersion) | quote }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
volumeMounts:
  - { name: tmp, mountPath: /tmp }
{{- end }}

{{- /* Pods of one kind go to different machines where they can. Takes the labels that select them. */}}
{{- define "holdfast.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    # Only those of one rollout count, or the old ones would push the new ones together.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- . | nindent 8 }}
{{- end }}

{{- /* One more, then one less: none is missing while they are replaced one by one. */}}
{{- define "holdfast.strategy" -}}
strategy:
  type: RollingUpdate
  rollingUpdate: { maxSurge: 1, maxUnavailable: 0 }
{{- end }}

{{- /* The plain settings of all, and over them those of one process. Takes [root, own settings]. */}}
{{- define "holdfast.settings" -}}
{{- $shared := (index . 0).Values.settings }}
{{- $_ := required "settings.TEMPORAL_ADDRESS: host and port of Temporal" $shared.TEMPORAL_ADDRESS }}
{{- $_ := required "settings.PAYMENT_PROVIDER: stripe, remote or sandbox" $shared.PAYMENT_PROVIDER }}
{{- merge dict (index . 1) $shared | include "holdfast.env" }}
{{- end }}

{{- /* An empty one counts as not set. */}}
{{- define "holdfast.env" -}}
{{- range $name, $value := . }}
- { name: {{ $name }}, value: {{ quote $value }} }
{{- end }}
{{- end }}

{{- /* The secrets of API and worker by their keys, so that a process gets none that it does not read. */}}
{{- define "holdfast.secrets" -}}
{{- $secret := .Values.secret }}
{{- range list "REDIS_URL" "MYSQL_URL" "PAYMENT_PROVIDER_API_KEY" "WEBHOOK_SECRETS" "ORDER_SIGNING_SECRETS" }}
- { name: {{ . }}, valueFrom: { secretKeyRef: { name: {{ $secret }}, key: {{ . }} } } }
{{- end }}
{{- range list "TEMPORAL_API_KEY" "TEMPORAL_TLS_CLIENT_CERT_DATA" "TEMPORAL_TLS_CLIENT_KEY_DATA" "OTEL_EXPORTER_OTLP_HEADERS" }}
- { name: {{ . }}, valueFrom: { secretKeyRef: { name: {{ $secret }}, key: {{ . }}, optional: true } } }
{{- end }}
{{- end }}
