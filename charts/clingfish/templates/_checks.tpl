{{/* Fails where values do not fit together, which the schema cannot say: else a pod could not start. */}}
{{- define "clingfish.check" -}}
{{- if le (int .Values.terminationGracePeriodSeconds) (int (add .Values.drain.minSeconds .Values.drain.maxSeconds)) }}
{{- fail (printf "terminationGracePeriodSeconds is %d; expected more than drain.minSeconds + drain.maxSeconds = %d, so that no request is cut off by the kubelet" (int .Values.terminationGracePeriodSeconds) (add .Values.drain.minSeconds .Values.drain.maxSeconds)) }}
{{- end -}}
{{- if gt (int .Values.drain.minSeconds) (int .Values.drain.maxSeconds) }}
{{- fail (printf "drain.minSeconds is %d; expected at most drain.maxSeconds = %d" (int .Values.drain.minSeconds) (int .Values.drain.maxSeconds)) }}
{{- end -}}
{{- include "clingfish.checkAccessLog" . -}}
{{- include "clingfish.checkTracing" . -}}
{{- include "clingfish.checkCeilings" .Values.ceilings -}}
{{- include "clingfish.checkPods" . -}}
{{- if .Values.autoscaling.enabled -}}{{- include "clingfish.checkAutoscaling" . -}}{{- end -}}
{{- end -}}

{{- define "clingfish.checkAccessLog" -}}
{{- if and (eq .Values.accessLog "template") (not .Values.accessLogTemplate) -}}
{{- fail "accessLogTemplate is empty; expected a line, since accessLog is template" -}}
{{- end -}}
{{- if and (has .Values.accessLog (list "text" "json")) .Values.accessLogTemplate -}}
{{- fail (printf "accessLog is %s; expected template, since accessLogTemplate is given" .Values.accessLog) -}}
{{- end -}}
{{- end -}}

{{- define "clingfish.checkTracing" -}}
{{- $mounts := .Values.extraVolumeMounts -}}
{{- with .Values.tracing -}}
{{- $hasCa := or .ca.configMap .ca.secret -}}
{{- if and .ca.configMap .ca.secret -}}
{{- fail "tracing.ca has a configMap and a secret; expected one of them" -}}
{{- end -}}
{{- if and (hasPrefix "https://" .endpoint) (not (or $hasCa $mounts)) -}}
{{- fail "tracing.endpoint is https; expected tracing.ca.configMap or tracing.ca.secret, since the image has no certificates that it could trust the collector by" -}}
{{- end -}}
{{- if and (hasPrefix "http://" .endpoint) $hasCa -}}
{{- fail "tracing.ca is given; expected https in tracing.endpoint, since nothing is verified over http" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clingfish.checkCeilings" -}}
{{- if and .maxConnections .maxConnectionsPerListener (gt (int64 .maxConnectionsPerListener) (int64 .maxConnections)) -}}
{{- fail (printf "ceilings.maxConnectionsPerListener is %d; expected at most ceilings.maxConnections = %d" (int64 .maxConnectionsPerListener) (int64 .maxConnections)) -}}
{{- end -}}
{{- if and .maxUdpFlows .maxUdpFlowsPerListener (gt (int64 .maxUdpFlowsPerListener) (int64 .maxUdpFlows)) -}}
{{- fail (printf "ceilings.maxUdpFlowsPerListener is %d; expected at most ceilings.maxUdpFlows = %d" (int64 .maxUdpFlowsPerListener) (int64 .maxUdpFlows)) -}}
{{- end -}}
{{- range $name, $least := dict "maxBufferedBytes" 1 "maxHeapSize" 32 -}}
{{- with get $ $name -}}
{{- $unit := regexFind "[A-Za-z]+$" . -}}
{{- $bytes := mul (regexFind "^[0-9]+" . | int64) (get (dict "n" 1 "nk" 1000 "nM" 1000000 "nG" 1000000000 "nKi" 1024 "nMi" 1048576 "nGi" 1073741824) (printf "n%s" $unit)) -}}
{{- if and (gt $bytes 0) (lt $bytes (mul $least 1048576)) -}}
{{- fail (printf "ceilings.%s is %s; expected at least %dMi, or nothing for the default" $name . $least) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What is added to the pods must not stand in for what the chart says. */}}
{{- define "clingfish.checkPods" -}}
{{- range $key, $_ := include "clingfish.labels" . | fromYaml -}}
{{- if hasKey $.Values.podLabels $key -}}
{{- fail (printf "podLabels has %s; expected other labels, since the chart sets this one" $key) -}}
{{- end -}}
{{- end -}}
{{- $names := list -}}
{{- range include "clingfish.environment" . | fromYamlArray -}}{{- $names = append $names .name -}}{{- end -}}
{{- range .Values.extraEnv -}}
{{- if has .name $names -}}
{{- fail (printf "extraEnv has %s twice, or the chart sets it; expected other variables" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $volumes := list -}}
{{- if include "clingfish.tracingCa" . -}}
{{- range .Values.extraVolumes -}}
{{- if eq .name "tracing-ca" -}}{{- fail "extraVolumes has tracing-ca, which is the chart's own; expected another name" -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraVolumes -}}{{- $volumes = append $volumes .name -}}{{- end -}}
{{- range .Values.extraVolumeMounts -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "extraVolumeMounts has %s; expected a volume of this name in extraVolumes" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clingfish.checkAutoscaling" -}}
{{- with .Values.autoscaling -}}
{{- if gt (int64 .minReplicas) (int64 .maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %d; expected at most autoscaling.maxReplicas = %d" (int64 .minReplicas) (int64 .maxReplicas)) -}}
{{- end -}}
{{- if not (or .targetCPUUtilizationPercentage .targetRequestsInFlight) -}}
{{- fail "autoscaling is enabled without a target; expected autoscaling.targetCPUUtilizationPercentage or autoscaling.targetRequestsInFlight" -}}
{{- end -}}
{{- end -}}
{{- $resources := .Values.resources -}}
{{- if and .Values.autoscaling.targetCPUUtilizationPercentage (not (or (dig "requests" "cpu" "" $resources) (dig "limits" "cpu" "" $resources))) -}}
{{- fail "resources.requests.cpu is missing; autoscaling.targetCPUUtilizationPercentage is a percentage of it" -}}
{{- end -}}
{{- end -}}
