package persistence

import (
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

func init() {
	Tests = append(Tests, suite.ConformanceTest{
		ShortName:   "XBackendTrafficPolicySessionPersistence",
		Description: "A policy for a backend makes the sessions of all rules persistent that send requests to it, each rule's its own",
		Manifests:   []string{"manifests/policy.yaml"},
		Features:    []features.FeatureName{features.SupportGateway, features.SupportHTTPRoute, SupportHTTPRouteSessionPersistence},
		Test:        policyForBackend,
	})
}

func policyForBackend(t *testing.T, s *suite.ConformanceTestSuite) {
	address := accepted(t, s, "policed")
	b := newBrowser(t, s, address)
	for _, path := range []string{"/policed-a", "/policed-b", "/own"} {
		b.ready(path)
	}
	pods := map[string]string{}
	names := map[string]bool{}
	for _, path := range []string{"/policed-a", "/policed-b", "/own"} {
		pod, set := b.get(path)
		require.Len(t, set, 1, "%s begins a session of its own", path)
		pods[path] = pod
		names[set[0].Name] = true
		if path == "/own" {
			require.Equal(t, "own", set[0].Name, "what a rule says counts before the policy")
		}
	}
	require.Len(t, names, 3)
	for path, pod := range pods {
		b.stays(path, pod)
	}
}
