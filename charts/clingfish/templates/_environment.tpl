{{/* What `clingfish run` is told; every variable is one of its flags. */}}
{{- define "clingfish.environment" -}}
- name: CLINGFISH_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: CLINGFISH_POD_IPS
  valueFrom:
    fieldRef:
      fieldPath: status.podIPs
- name: CLINGFISH_INSTALL_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: CLINGFISH_INSTANCE_NAME
  value: {{ include "clingfish.fullname" . | quote }}
- name: CLINGFISH_OWNER_CONFIG_MAP
  value: "{{ include "clingfish.fullname" . }}-install"
- name: CLINGFISH_POD_SELECTOR
  value: "app.kubernetes.io/name={{ include "clingfish.name" . }},app.kubernetes.io/instance={{ .Release.Name }}"
- name: CLINGFISH_CONTROLLER_NAME
  value: {{ .Values.controllerName | quote }}
- name: CLINGFISH_GLOO
  value: {{ .Values.gloo.enabled | quote }}
- name: CLINGFISH_SERVICE_TYPE
  value: {{ .Values.service.type | quote }}
- name: CLINGFISH_EXTERNAL_TRAFFIC_POLICY
  value: {{ .Values.service.externalTrafficPolicy | quote }}
{{- with .Values.service.ipFamilyPolicy }}
- name: CLINGFISH_IP_FAMILY_POLICY
  value: {{ . | quote }}
{{- end }}
- name: CLINGFISH_SERVICE_REST
  value: {{ int64 .Values.service.restSeconds }}s
- name: CLINGFISH_SERVICE_ANNOTATIONS
  value: {{ .Values.service.annotations | toJson | quote }}
- name: CLINGFISH_SERVICE_LABELS
  value: {{ .Values.service.labels | toJson | quote }}
{{- with .Values.service.loadBalancerSourceRanges }}
- name: CLINGFISH_LOAD_BALANCER_SOURCE_RANGES
  value: {{ join "," . | quote }}
{{- end }}
{{- if kindIs "bool" .Values.service.allocateLoadBalancerNodePorts }}
- name: CLINGFISH_ALLOCATE_LOAD_BALANCER_NODE_PORTS
  value: {{ .Values.service.allocateLoadBalancerNodePorts | quote }}
{{- end }}
{{- with .Values.service.loadBalancerClass }}
- name: CLINGFISH_LOAD_BALANCER_CLASS
  value: {{ . | quote }}
{{- end }}
- name: CLINGFISH_EXTRA_SERVICES
  value: {{ .Values.service.externalName | quote }}
{{- if include "clingfish.nodeAddresses" . }}
- name: CLINGFISH_NODE_ADDRESSES
  value: "true"
{{- end }}
- name: CLINGFISH_CLASS_FINALIZER
  value: {{ .Values.gatewayClass.finalizer | quote }}
- name: CLINGFISH_CLUSTER_DOMAIN
  value: {{ .Values.clusterDomain | quote }}
{{- with .Values.upstreamCrossNamespace }}
- name: CLINGFISH_UPSTREAM_CROSS_NAMESPACE
  value: {{ . | quote }}
{{- end }}
{{- with .Values.rbac.secretNamespaces }}
- name: CLINGFISH_SECRET_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
- name: CLINGFISH_LOG_LEVEL
  value: {{ .Values.log.level | quote }}
- name: CLINGFISH_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
- name: CLINGFISH_ACCESS_LOG
  value: {{ .Values.accessLog | quote }}
{{- with .Values.accessLogTemplate }}
- name: CLINGFISH_ACCESS_LOG_TEMPLATE
  value: {{ . | quote }}
{{- end }}
{{- with .Values.tracing }}
{{- if .endpoint }}
- name: CLINGFISH_TRACING_ENDPOINT
  value: {{ .endpoint | quote }}
{{- if include "clingfish.tracingCa" $ }}
- name: CLINGFISH_TRACING_CA_FILE
  value: {{ printf "/etc/clingfish/tracing-ca/%s" .ca.key | quote }}
{{- end }}
- name: CLINGFISH_TRACING_PROTOCOL
  value: {{ .protocol | quote }}
- name: CLINGFISH_TRACING_SAMPLER
  value: {{ .sampler | quote }}
- name: CLINGFISH_TRACING_SAMPLING_PERCENTAGE
  value: {{ .samplingPercentage | toString | quote }}
- name: CLINGFISH_TRACING_SERVICE_NAME
  value: {{ .serviceName | quote }}
{{- with .headersSecret }}
{{- if .name }}
- name: CLINGFISH_TRACING_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .key | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.accessLogFilter.status }}
- name: CLINGFISH_ACCESS_LOG_STATUS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.accessLogFilter.minDuration }}
- name: CLINGFISH_ACCESS_LOG_MIN_DURATION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.accessLogFilter.flags }}
- name: CLINGFISH_ACCESS_LOG_FLAGS
  value: {{ join "," . | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.accessLogFilter.samplePercent) }}
- name: CLINGFISH_ACCESS_LOG_SAMPLE
  value: {{ .Values.accessLogFilter.samplePercent | quote }}
{{- end }}
- name: CLINGFISH_DRAIN_MIN
  value: {{ int64 .Values.drain.minSeconds }}s
- name: CLINGFISH_DRAIN_MAX
  value: {{ int64 .Values.drain.maxSeconds }}s
{{- with .Values.workers }}
- name: CLINGFISH_WORKERS
  value: {{ int64 . | quote }}
{{- end }}
{{- with .Values.ceilings }}
{{- with .maxConnections }}
- name: CLINGFISH_MAX_CONNECTIONS
  value: {{ int64 . | quote }}
{{- end }}
{{- with .maxConnectionsPerListener }}
- name: CLINGFISH_MAX_CONNECTIONS_PER_LISTENER
  value: {{ int64 . | quote }}
{{- end }}
{{- with .maxUdpFlows }}
- name: CLINGFISH_MAX_UDP_FLOWS
  value: {{ int64 . | quote }}
{{- end }}
{{- with .maxUdpFlowsPerListener }}
- name: CLINGFISH_MAX_UDP_FLOWS_PER_LISTENER
  value: {{ int64 . | quote }}
{{- end }}
{{- with .maxTlsHandshakes }}
- name: CLINGFISH_MAX_TLS_HANDSHAKES
  value: {{ int64 . | quote }}
{{- end }}
{{- with .maxBufferedBytes }}
- name: CLINGFISH_MAX_BUFFERED_BYTES
  value: {{ . | quote }}
{{- end }}
{{- with .maxHeapSize }}
- name: CLINGFISH_MAX_HEAP_SIZE
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- if kindIs "bool" .Values.clients.useRemoteAddress }}
- name: CLINGFISH_USE_REMOTE_ADDRESS
  value: {{ .Values.clients.useRemoteAddress | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.clients.xffNumTrustedHops) }}
- name: CLINGFISH_XFF_NUM_TRUSTED_HOPS
  value: {{ .Values.clients.xffNumTrustedHops | int64 | quote }}
{{- end }}
{{- with .Values.clients.proxyProtocolTrustedIPs }}
- name: CLINGFISH_PROXY_PROTOCOL_TRUSTED_IPS
  value: {{ join "," . | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.backends.maxConnections) }}
- name: CLINGFISH_CIRCUIT_BREAKER_MAX_CONNECTIONS
  value: {{ .Values.backends.maxConnections | int64 | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.backends.maxPendingRequests) }}
- name: CLINGFISH_CIRCUIT_BREAKER_MAX_PENDING_REQUESTS
  value: {{ .Values.backends.maxPendingRequests | int64 | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.backends.maxRequests) }}
- name: CLINGFISH_CIRCUIT_BREAKER_MAX_REQUESTS
  value: {{ .Values.backends.maxRequests | int64 | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.backends.retryBudgetPercent) }}
- name: CLINGFISH_RETRY_BUDGET_PERCENT
  value: {{ .Values.backends.retryBudgetPercent | int64 | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.backends.retryBudgetMinConcurrency) }}
- name: CLINGFISH_RETRY_BUDGET_MIN_CONCURRENCY
  value: {{ .Values.backends.retryBudgetMinConcurrency | int64 | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.backends.retryBodyBytes) }}
- name: CLINGFISH_RETRY_BODY_BYTES
  value: {{ .Values.backends.retryBodyBytes | int64 | quote }}
{{- end }}
{{- with .Values.backends.http2PingInterval }}
- name: CLINGFISH_HTTP2_PING_INTERVAL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.backends.http2PingTimeout }}
- name: CLINGFISH_HTTP2_PING_TIMEOUT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.clients.serverHeader }}
- name: CLINGFISH_SERVER_HEADER
  value: {{ . | quote }}
{{- end }}
- name: CLINGFISH_HOSTNAME_OWNERSHIP
  value: {{ .Values.hostnameOwnership | quote }}
- name: CLINGFISH_RING_POINTS
  value: {{ .Values.ringPoints | int64 | quote }}
- name: CLINGFISH_MERGE_SLASHES
  value: {{ .Values.paths.mergeSlashes | quote }}
- name: CLINGFISH_HEADERS_WITH_UNDERSCORES_ACTION
  value: {{ .Values.headersWithUnderscoresAction | quote }}
- name: CLINGFISH_PATH_WITH_ESCAPED_SLASHES_ACTION
  value: {{ .Values.paths.pathWithEscapedSlashesAction | quote }}
{{- end -}}

{{/* The volume with the certificates to trust the collector of traces by; nothing without them. */}}
{{- define "clingfish.tracingCa" -}}
{{- with .Values.tracing -}}
{{- if and .endpoint (or .ca.configMap .ca.secret) -}}
- name: tracing-ca
  {{- if .ca.secret }}
  secret:
    secretName: {{ .ca.secret | quote }}
  {{- else }}
  configMap:
    name: {{ .ca.configMap | quote }}
  {{- end }}
    items:
      - key: {{ .ca.key | quote }}
        path: {{ .ca.key | quote }}
{{- end -}}
{{- end -}}
{{- end -}}
