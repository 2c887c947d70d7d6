package conformance

import (
	"io/fs"
	"testing"

	"clingfish.dev/e2e/conformance/persistence"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// TestPersistence runs our tests of session persistence, in the place of those that the suite does not have yet.
func TestPersistence(t *testing.T) {
	options := conformance.DefaultOptions(t)
	options.ReportOutputPath = ""
	options.ConformanceProfiles = nil
	options.ManifestFS = []fs.FS{&conformance.Manifests, &persistence.Manifests}
	found, err := suite.NewConformanceTestSuite(options)
	require.NoError(t, err)
	found.Setup(t, persistence.Tests)
	require.NoError(t, found.Run(t, persistence.Tests))
}
