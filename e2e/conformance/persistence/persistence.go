// Package persistence tests session persistence (GEP-1619) in the way of the Gateway API's conformance suite, which has no such tests yet. It
// names the features as the GEP does, uses the suite's base resources, and knows nothing of Clingfish.
package persistence

import (
	"context"
	"embed"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	v1 "sigs.k8s.io/gateway-api/apis/v1"
	httputils "sigs.k8s.io/gateway-api/conformance/utils/http"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Features that the GEP names.
const (
	SupportHTTPRouteSessionPersistence          features.FeatureName = "HTTPRouteSessionPersistence"
	SupportHTTPRouteSessionPersistencePermanent features.FeatureName = "HTTPRouteSessionPersistenceCookieLifetimeTypePermanent"
	SupportGRPCRouteSessionPersistence          features.FeatureName = "GRPCRouteSessionPersistence"
	SupportGRPCRouteSessionPersistenceHeader    features.FeatureName = "GRPCRouteSessionPersistenceHeader"
)

// Requests that show that a session stays: by chance it would do so once in 2^50 times.
const requests = 50

// Manifests of the tests.
//
//go:embed manifests/*.yaml
var Manifests embed.FS

// Tests of session persistence.
var Tests []suite.ConformanceTest

func gateway() types.NamespacedName {
	return types.NamespacedName{Name: "same-namespace", Namespace: suite.InfrastructureNamespace}
}

func name(route string) types.NamespacedName {
	return types.NamespacedName{Name: route, Namespace: suite.InfrastructureNamespace}
}

// A browser keeps cookies by their paths, and headers that it is told to send back.
type browser struct {
	t       *testing.T
	suite   *suite.ConformanceTestSuite
	address string
	cookies map[string]*http.Cookie
}

func accepted(t *testing.T, s *suite.ConformanceTestSuite, route string) string {
	return kubernetes.GatewayAndHTTPRoutesMustBeAccepted(t, s.Client, s.TimeoutConfig, s.ControllerName, kubernetes.NewGatewayRef(gateway()), name(route))
}

func newBrowser(t *testing.T, s *suite.ConformanceTestSuite, address string) *browser {
	return &browser{t: t, suite: s, address: address, cookies: map[string]*http.Cookie{}}
}

// Sends a request with the cookies that are for its path. Returns the pod that answered, and the cookies that it set.
func (b *browser) get(path string) (string, []*http.Cookie) {
	b.t.Helper()
	expected := httputils.ExpectedResponse{
		Request:   httputils.Request{Path: path, Headers: map[string]string{}},
		Response:  httputils.Response{StatusCodes: []int{200}},
		Namespace: suite.InfrastructureNamespace,
	}
	for _, cookie := range b.cookies {
		if isBelow(path, cookie.Path) {
			before := expected.Request.Headers["Cookie"]
			if before != "" {
				before += "; "
			}
			expected.Request.Headers["Cookie"] = before + cookie.Name + "=" + cookie.Value
		}
	}
	request := httputils.MakeRequest(b.t, &expected, b.address, "HTTP", "http")
	asked, answered, err := b.suite.RoundTripper.CaptureRoundTrip(request)
	require.NoError(b.t, err)
	require.Equal(b.t, http.StatusOK, answered.StatusCode)
	set := (&http.Response{Header: http.Header(answered.Headers)}).Cookies()
	for _, cookie := range set {
		b.cookies[cookie.Name+" "+cookie.Path] = cookie
	}
	return asked.Pod, set
}

// RFC 6265 section 5.1.4; a cookie without a path is sent everywhere here.
func isBelow(path, of string) bool {
	if of == "" || of == "/" || path == of {
		return true
	}
	return len(path) > len(of) && path[:len(of)] == of && (of[len(of)-1] == '/' || path[len(of)] == '/')
}

// Whatever the route answers is ready: the tests look at single answers.
func (b *browser) ready(path string) {
	b.t.Helper()
	expected := httputils.ExpectedResponse{
		Request: httputils.Request{Path: path}, Response: httputils.Response{StatusCodes: []int{200}}, Namespace: suite.InfrastructureNamespace,
	}
	httputils.MakeRequestAndExpectEventuallyConsistentResponse(b.t, b.suite.RoundTripper, b.suite.TimeoutConfig, b.address, expected)
}

// Asserts that the session stays on a pod.
func (b *browser) stays(path, pod string) {
	b.t.Helper()
	for range requests {
		found, _ := b.get(path)
		require.Equal(b.t, pod, found, "the session has moved")
	}
}

// Sets the weights of the backends of a route's first rule, and waits until the gateway has read them.
func setWeights(t *testing.T, s *suite.ConformanceTestSuite, route string, weights ...int32) {
	t.Helper()
	change := &v1.HTTPRoute{}
	require.NoError(t, s.Client.Get(context.Background(), name(route), change))
	for i, weight := range weights {
		change.Spec.Rules[0].BackendRefs[i].Weight = &weight
	}
	require.NoError(t, s.Client.Update(context.Background(), change))
	require.Eventually(t, func() bool {
		found := &v1.HTTPRoute{}
		if s.Client.Get(context.Background(), name(route), found) != nil {
			return false
		}
		for _, parent := range found.Status.Parents {
			for _, condition := range parent.Conditions {
				if condition.ObservedGeneration != found.Generation {
					return false
				}
			}
		}
		return len(found.Status.Parents) > 0
	}, s.TimeoutConfig.DefaultTestTimeout, 100*time.Millisecond)
}

// Asserts that a session which began at this time ends after its absolute timeout, and not before.
func endsAfter(t *testing.T, began time.Time, timeout time.Duration, hasEnded func() bool) {
	t.Helper()
	for time.Since(began) < timeout+30*time.Second {
		sent := time.Now()
		if hasEnded() {
			require.GreaterOrEqual(t, time.Since(began), timeout, "the session has ended too early")
			return
		}
		require.Less(t, sent.Sub(began), timeout+5*time.Second, "the session has outlived its timeout")
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the session has not ended")
}
