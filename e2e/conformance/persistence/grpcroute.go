package persistence

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "sigs.k8s.io/gateway-api/apis/v1"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
	"sigs.k8s.io/gateway-api/conformance/utils/grpc"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

const sessionHeader = "x-session"

func init() {
	header := []features.FeatureName{
		features.SupportGateway, features.SupportGRPCRoute, SupportGRPCRouteSessionPersistence, SupportGRPCRouteSessionPersistenceHeader,
	}
	test := func(name, description string, run func(*testing.T, *suite.ConformanceTestSuite)) {
		Tests = append(Tests, suite.ConformanceTest{
			ShortName: name, Description: description, Manifests: []string{"manifests/grpcroute.yaml"}, Features: header, Test: run,
		})
	}
	test("GRPCRouteSessionPersistenceHeader", "A session stays on the pod that its header leads to", headerStays)
	test("GRPCRouteSessionPersistenceWeights", "A session stays with its backend whatever the weights, also with 0", callWeights)
	test("GRPCRouteSessionPersistenceRules", "Rules do not share sessions", callRules)
	test("GRPCRouteSessionPersistenceTimeout", "The gateway ends a session after its absolute timeout", callTimeout)
	test("GRPCRouteSessionPersistencePodGone", "A session whose pod is gone goes on with another one", podGone)
}

// A caller sends back the header that it was told.
type caller struct {
	t       *testing.T
	suite   *suite.ConformanceTestSuite
	client  grpc.Client
	address string
	session string
}

func newCaller(t *testing.T, s *suite.ConformanceTestSuite) *caller {
	address := kubernetes.GatewayAndRoutesMustBeAccepted(t, s.Client, s.TimeoutConfig, s.ControllerName,
		kubernetes.NewGatewayRef(gateway()), &v1.GRPCRoute{}, true, name("persistent-calls"))
	expected := grpc.ExpectedResponse{EchoRequest: &pb.EchoRequest{}, Backend: "grpc-infra-backend", Namespace: suite.InfrastructureNamespace}
	grpc.MakeRequestAndExpectEventuallyConsistentResponse(t, s.GRPCClient, s.TimeoutConfig, address, expected)
	client := s.GRPCClient
	if client == nil {
		client = &grpc.DefaultClient{}
		t.Cleanup(client.Close)
	}
	return &caller{t: t, suite: s, client: client, address: address}
}

func (c *caller) another() *caller {
	return &caller{t: c.t, suite: c.suite, client: c.client, address: c.address}
}

// Calls Echo, or EchoTwo. Returns the pod that answered, and whether it began a session.
func (c *caller) call(two bool) (string, bool) {
	c.t.Helper()
	expected := grpc.ExpectedResponse{RequestMetadata: &grpc.RequestMetadata{Metadata: map[string]string{}}}
	if two {
		expected.EchoTwoRequest = &pb.EchoRequest{}
	} else {
		expected.EchoRequest = &pb.EchoRequest{}
	}
	if c.session != "" {
		expected.RequestMetadata.Metadata[sessionHeader] = c.session
	}
	answer, err := c.client.SendRPC(c.t, c.address, expected, c.suite.TimeoutConfig.RequestTimeout)
	require.NoError(c.t, err)
	require.NotNil(c.t, answer.Response)
	told := answer.Headers.Get(sessionHeader)
	if len(told) > 0 {
		c.session = told[0]
	}
	return answer.Response.GetAssertions().GetContext().GetPod(), len(told) > 0
}

func (c *caller) stays(pod string) {
	c.t.Helper()
	for range requests {
		found, began := c.call(false)
		require.Equal(c.t, pod, found, "the session has moved")
		require.False(c.t, began)
	}
}

func headerStays(t *testing.T, s *suite.ConformanceTestSuite) {
	first := newCaller(t, s)
	pods := map[string]bool{}
	for range 10 {
		c := first.another()
		pod, began := c.call(false)
		require.True(t, began, "a session begins with its header")
		c.stays(pod)
		pods[pod] = true
	}
	require.Greater(t, len(pods), 1, "sessions are balanced")
}

func callWeights(t *testing.T, s *suite.ConformanceTestSuite) {
	first := newCaller(t, s)
	sessions := map[*caller]string{}
	for range 20 {
		c := first.another()
		sessions[c], _ = c.call(false)
	}
	for _, share := range [][]int32{{0, 100}, {100, 0}} {
		setCallWeights(t, s, share)
		for c, pod := range sessions {
			found, _ := c.call(false)
			require.Equal(t, pod, found, "weights %v have moved a session", share)
		}
	}
}

func setCallWeights(t *testing.T, s *suite.ConformanceTestSuite, weights []int32) {
	t.Helper()
	change := &v1.GRPCRoute{}
	require.NoError(t, s.Client.Get(context.Background(), name("persistent-calls"), change))
	for i, weight := range weights {
		change.Spec.Rules[0].BackendRefs[i].Weight = &weight
	}
	require.NoError(t, s.Client.Update(context.Background(), change))
	require.Eventually(t, func() bool {
		found := &v1.GRPCRoute{}
		if s.Client.Get(context.Background(), name("persistent-calls"), found) != nil || len(found.Status.Parents) == 0 {
			return false
		}
		for _, condition := range found.Status.Parents[0].Conditions {
			if condition.ObservedGeneration != found.Generation {
				return false
			}
		}
		return true
	}, s.TimeoutConfig.DefaultTestTimeout, 100*time.Millisecond)
}

func callRules(t *testing.T, s *suite.ConformanceTestSuite) {
	c := newCaller(t, s)
	_, began := c.call(false)
	require.True(t, began)
	carried := c.another()
	carried.session = c.session
	_, began = carried.call(true)
	require.True(t, began, "the session of another rule counts for nothing")
	_, began = c.call(false)
	require.False(t, began, "and goes on in its own")
}

func callTimeout(t *testing.T, s *suite.ConformanceTestSuite) {
	c := newCaller(t, s)
	began := time.Now()
	_, new := c.call(true)
	require.True(t, new)
	endsAfter(t, began, 5*time.Second, func() bool {
		_, ended := c.call(true)
		return ended
	})
}

func podGone(t *testing.T, s *suite.ConformanceTestSuite) {
	c := newCaller(t, s)
	gone, _ := c.call(false)
	pod := &core.Pod{ObjectMeta: meta.ObjectMeta{Name: gone, Namespace: suite.InfrastructureNamespace}}
	require.NoError(t, s.Client.Delete(context.Background(), pod))
	var heir string
	require.Eventually(t, func() bool {
		heir, _ = c.call(false)
		return heir != gone
	}, s.TimeoutConfig.DefaultTestTimeout, 200*time.Millisecond, "the pod still serves")
	c.stays(heir)
	kubernetes.NamespacesMustBeReady(t, s.Client, s.TimeoutConfig, []string{suite.InfrastructureNamespace})
}
