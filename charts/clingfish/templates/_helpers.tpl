{{/* The install's name: of everything that is made once, of the Lease and of the port table. */}}
{{- define "clingfish.fullname" -}}
{{- $name := include "clingfish.name" . -}}
{{- /* A release may have dots in its name, and a Service may not. */ -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name $release -}}
{{- regexReplaceAll "-+$" ($release | trunc 50) "" -}}
{{- else -}}
{{- regexReplaceAll "-+$" (printf "%s-%s" (regexReplaceAll "-+$" ($release | trunc 40) "") $name | trunc 50) "" -}}
{{- end -}}
{{- end -}}

{{- define "clingfish.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{- define "clingfish.serviceAccount" -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.name is empty; expected the name of an account that exists, since serviceAccount.create is false" -}}
{{- end -}}
{{- .Values.serviceAccount.name | default (include "clingfish.fullname" .) -}}
{{- end -}}

{{- define "clingfish.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The number of pods in the Deployment's manifest; empty: it has none, and whoever scales the Deployment sets it.

Helm takes back what the last manifest had and the new one has not, and without a number the API server makes it one pod. So a
Deployment whose manifest had a number goes on with the number that it has now. The annotation clingfish.dev/replicas says that the
manifest had none. */}}
{{- define "clingfish.replicas" -}}
{{- if not (or .Values.autoscaling.enabled (kindIs "invalid" .Values.replicas)) -}}
{{- int64 .Values.replicas -}}
{{- else -}}
{{- with lookup "apps/v1" "Deployment" .Release.Namespace (include "clingfish.deployment" .) -}}
{{- if not (hasKey (.metadata.annotations | default dict) "clingfish.dev/replicas") -}}{{- int64 .spec.replicas -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Gloo's guides forward ports of `deployment/gloo-proxy-http`. */}}
{{- define "clingfish.deployment" -}}
{{- if .Values.gloo.enabled -}}gloo-proxy-http{{- else -}}{{- include "clingfish.fullname" . -}}{{- end -}}
{{- end -}}

{{/* Cluster-wide names carry the namespace: one release name may be installed in several. */}}
{{- define "clingfish.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "clingfish.fullname" .) -}}
{{- end -}}

{{- define "clingfish.selector" -}}
app.kubernetes.io/name: {{ include "clingfish.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "clingfish.labels" -}}
{{ include "clingfish.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "clingfish.classes" -}}
{{- $classes := list -}}
{{- if .Values.gatewayClass.create -}}{{- $classes = append $classes .Values.gatewayClass.name -}}{{- end -}}
{{- if .Values.gloo.enabled -}}{{- $classes = append $classes "gloo-gateway" -}}{{- end -}}
{{- $classes | uniq | join "," -}}
{{- end -}}

{{/* "yes" where a cluster answers: `helm template` has none, and `lookup` finds nothing there. */}}
{{- define "clingfish.connected" -}}
{{- if lookup "v1" "Namespace" "" "default" -}}yes{{- end -}}
{{- end -}}

{{/* Fails with what to do where the cluster is too old or the Gateway API is missing. */}}
{{- define "clingfish.requireGatewayApi" -}}
{{- if and .Values.checkGatewayApi (include "clingfish.connected" .) -}}
{{- if not (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "Kubernetes %s is too old; expected 1.30 or later" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- range $kind := list "GatewayClass" "Gateway" "HTTPRoute" -}}
{{- if not ($.Capabilities.APIVersions.Has (printf "gateway.networking.k8s.io/v1/%s" $kind)) -}}
{{- fail (printf "\n\nThe cluster has no %s of gateway.networking.k8s.io/v1. Install the CRDs of the Gateway API first:\n\n  kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.3/standard-install.yaml\n" $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "yes" if the CRD (.crd) has no status subresource, so that a status is a patch of the object itself. */}}
{{- define "clingfish.withoutStatus" -}}
{{- $said := .root.Values.gloo.crdsWithoutStatus -}}
{{- if kindIs "bool" $said -}}
{{- if $said -}}yes{{- end -}}
{{- else -}}
{{- with lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .crd -}}
{{- range .spec.versions -}}
{{- if and .served (not (hasKey (.subresources | default dict) "status")) -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "yes" where ExternalName Services of this release exist. */}}
{{- define "clingfish.leftExternalNames" -}}
{{- $install := printf "%s/%s" .Release.Namespace (include "clingfish.fullname" .) -}}
{{- $found := "" -}}
{{- range (lookup "v1" "Service" "" "").items -}}
{{- $by := index (.metadata.annotations | default dict) "clingfish.dev/install" -}}
{{- if and (eq .spec.type "ExternalName") (eq ($by | default "") $install) -}}{{- $found = "yes" -}}{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* Another release in the cluster with this controllerName, as "NAME in the namespace NAMESPACE"; empty: none is seen. */}}
{{- define "clingfish.otherInstall" -}}
{{- $found := "" -}}
{{- $classes := (lookup "gateway.networking.k8s.io/v1" "GatewayClass" "" "").items | default list -}}
{{- range concat $classes ((lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "").items | default list) -}}
{{- $annotations := .metadata.annotations | default dict -}}
{{- $controller := eq .kind "GatewayClass" | ternary (dig "spec" "controllerName" "" .) (index $annotations "clingfish.dev/controller-name" | default "") -}}
{{- $release := index $annotations "meta.helm.sh/release-name" | default "" -}}
{{- $namespace := index $annotations "meta.helm.sh/release-namespace" | default "" -}}
{{- if and $release (eq $controller $.Values.controllerName) (not (and (eq $release $.Release.Name) (eq $namespace $.Release.Namespace))) -}}
{{- $found = printf "%s in the namespace %s" $release $namespace -}}
{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* Fails where another release has this controllerName: the younger of the two would write nothing. */}}
{{- define "clingfish.requireOwnControllerName" -}}
{{- if and .Values.checkGatewayApi (not .Values.allowSharedControllerName) (include "clingfish.connected" .) -}}
{{- with include "clingfish.otherInstall" . -}}
{{- fail (printf "\n\nThe release %s has the controllerName %s too. Of two such installs only the older one writes statuses and Services. Give this one names of its own:\n\n  --set controllerName=example.com/gateway-controller --set gatewayClass.name=edge\n\nIf this install is to take over when the other one is uninstalled, set allowSharedControllerName=true.\n" . $.Values.controllerName) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels of Jobs, which no Service in front of a Gateway may select. */}}
{{- define "clingfish.releaseLabels" -}}
app.kubernetes.io/name: "{{ include "clingfish.name" . }}-release"
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* "yes" where Gateways report the addresses of nodes. */}}
{{- define "clingfish.nodeAddresses" -}}
{{- $said := .Values.service.nodeAddresses -}}
{{- if kindIs "bool" $said -}}{{- if $said -}}yes{{- end -}}{{- else if eq .Values.service.type "NodePort" -}}yes{{- end -}}
{{- end -}}

{{/* Labels of what `helm test` makes. */}}
{{- define "clingfish.testLabels" -}}
app.kubernetes.io/name: "{{ include "clingfish.name" . }}-test"
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Labels of the backends alone. */}}
{{- define "clingfish.testSelector" -}}
app.kubernetes.io/name: "{{ include "clingfish.name" . }}-test"
app.kubernetes.io/instance: {{ .Release.Name | quote }}
clingfish.dev/chart-test: backend
{{- end -}}
