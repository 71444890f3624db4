{{- define "talktrack.name" -}}
{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "talktrack.selector" -}}
app.kubernetes.io/name: talktrack
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "talktrack.labels" -}}
{{ include "talktrack.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "talktrack.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "talktrack.environment" -}}
envFrom:
  - secretRef:
      name: {{ .Values.secretName }}
env:
  # A folder of its own in the volume: the server makes it with mode 0700, which it cannot do for the root of the volume.
  - name: TALKTRACK_DATA_DIR
    value: /var/lib/talktrack/data
  {{- range $name, $value := .Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- end }}

{{- define "talktrack.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
