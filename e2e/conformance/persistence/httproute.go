package persistence

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

func init() {
	http := []features.FeatureName{features.SupportGateway, features.SupportHTTPRoute, SupportHTTPRouteSessionPersistence}
	permanent := append(append([]features.FeatureName{}, http...), SupportHTTPRouteSessionPersistencePermanent)
	Tests = append(Tests, suite.ConformanceTest{
		ShortName:   "HTTPRouteSessionPersistenceCookie",
		Description: "A session stays on the pod that its cookie leads to, and others are balanced",
		Manifests:   []string{"manifests/httproute.yaml"}, Features: http, Test: cookieStays,
	}, suite.ConformanceTest{
		ShortName:   "HTTPRouteSessionPersistenceCookieSession",
		Description: "The cookie of a session has no Expires and no Max-Age, and the gateway ends the session",
		Manifests:   []string{"manifests/httproute.yaml"}, Features: http, Test: cookieOfSession,
	}, suite.ConformanceTest{
		ShortName:   "HTTPRouteSessionPersistenceWeights",
		Description: "A session stays with its backend whatever the weights, also with 0",
		Manifests:   []string{"manifests/httproute.yaml"}, Features: http, Test: weights,
	}, suite.ConformanceTest{
		ShortName:   "HTTPRouteSessionPersistenceRules",
		Description: "Rules do not share sessions",
		Manifests:   []string{"manifests/httproute.yaml"}, Features: http, Test: rules,
	}, suite.ConformanceTest{
		ShortName:   "HTTPRouteSessionPersistenceCookiePermanent",
		Description: "A permanent cookie lives as long as the session",
		Manifests:   []string{"manifests/httproute.yaml"}, Features: permanent, Test: permanentCookie,
	})
}

func cookieStays(t *testing.T, s *suite.ConformanceTestSuite) {
	address := accepted(t, s, "persistent")
	newBrowser(t, s, address).ready("/cookie")
	pods := map[string]bool{}
	for range 10 {
		b := newBrowser(t, s, address)
		pod, set := b.get("/cookie")
		require.Len(t, set, 1, "a session begins with its cookie")
		require.Equal(t, "session", set[0].Name)
		require.True(t, set[0].HttpOnly)
		b.stays("/cookie", pod)
		pods[pod] = true
	}
	require.Greater(t, len(pods), 1, "sessions are balanced")
}

func cookieOfSession(t *testing.T, s *suite.ConformanceTestSuite) {
	b := newBrowser(t, s, accepted(t, s, "persistent"))
	b.ready("/short")
	began := time.Now()
	_, set := b.get("/short")
	require.Len(t, set, 1)
	require.True(t, set[0].Expires.IsZero() && set[0].MaxAge == 0, "the cookie ends with the browser's session: %v", set[0])
	endsAfter(t, began, 5*time.Second, func() bool {
		_, set := b.get("/short")
		return len(set) > 0
	})
}

func weights(t *testing.T, s *suite.ConformanceTestSuite) {
	address := accepted(t, s, "persistent-weights")
	newBrowser(t, s, address).ready("/weights")
	sessions := map[*browser]string{}
	for range 20 {
		b := newBrowser(t, s, address)
		pod, _ := b.get("/weights")
		sessions[b] = pod
	}
	// In both directions: some sessions are with either backend.
	for _, share := range [][]int32{{0, 100}, {100, 0}} {
		setWeights(t, s, "persistent-weights", share...)
		for b, pod := range sessions {
			found, _ := b.get("/weights")
			require.Equal(t, pod, found, "weights %v have moved a session", share)
		}
	}
}

func rules(t *testing.T, s *suite.ConformanceTestSuite) {
	b := newBrowser(t, s, accepted(t, s, "persistent"))
	b.ready("/cookie")
	b.ready("/other")
	_, set := b.get("/cookie")
	require.Len(t, set, 1)
	_, other := b.get("/other")
	require.Len(t, other, 1, "another rule begins a session of its own")
	// Even if somebody carries it there.
	stranger := newBrowser(t, s, b.address)
	carried := *set[0]
	carried.Path, carried.Name = "/", other[0].Name
	stranger.cookies["carried"] = &carried
	_, anew := stranger.get("/other")
	require.Len(t, anew, 1, "the session of another rule counts for nothing")
	for _, path := range []string{"/cookie", "/other"} {
		pod, set := b.get(path)
		require.Empty(t, set, "each rule keeps its session")
		b.stays(path, pod)
	}
}

func permanentCookie(t *testing.T, s *suite.ConformanceTestSuite) {
	b := newBrowser(t, s, accepted(t, s, "persistent"))
	b.ready("/permanent")
	pod, set := b.get("/permanent")
	require.Len(t, set, 1)
	require.True(t, set[0].MaxAge == 300 || !set[0].Expires.IsZero(), "the cookie lives for five minutes: %v", set[0])
	b.stays("/permanent", pod)
}
