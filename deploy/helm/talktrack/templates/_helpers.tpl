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
  # A subfolder of the volume: the server creates the folder with mode 0700, and cannot change the mode of the volume's root.
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
