// Package conformance runs the Gateway API's official suite against a cluster where Clingfish is installed.
package conformance

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api/conformance"
	report "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
	"sigs.k8s.io/yaml"
)

var core = flag.Bool("core", false, "run the core tests only, whatever the GatewayClass claims")

func TestConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	if len(options.ConformanceProfiles) == 0 {
		options.ConformanceProfiles = suite.ParseConformanceProfilesSlice(string(suite.GatewayHTTPConformanceProfileName))
	}
	if *core {
		options.SupportedFeatures = []features.FeatureName{
			features.SupportGateway, features.SupportReferenceGrant, features.SupportHTTPRoute, features.SupportGRPCRoute, features.SupportTLSRoute,
			features.SupportTCPRoute, features.SupportUDPRoute,
			// Without it a core test demands that the gateway refuses to terminate TLS for TLSRoutes.
			features.SupportTLSRouteModeTerminate,
		}
	}
	if options.ReportOutputPath == "" {
		options.ReportOutputPath = "report.yaml"
	}
	name(&options)
	start := time.Now()
	// Registered first, so it runs last: when the suite has written its report.
	t.Cleanup(func() {
		if err := summarise(options.ReportOutputPath, time.Since(start)); err != nil {
			t.Errorf("no summary of %s: %v", options.ReportOutputPath, err)
		}
	})
	conformance.RunConformanceWithOptions(t, options)
}

// name fills in what the report says about the implementation, unless flags did.
func name(options *suite.ConformanceOptions) {
	for field, value := range map[*string]string{
		&options.Implementation.Organization: "clingfish",
		&options.Implementation.Project:      "clingfish",
		&options.Implementation.URL:          "https://clingfish.dev",
		&options.Implementation.Version:      "0.1.0",
	} {
		if *field == "" {
			*field = value
		}
	}
	if len(options.Implementation.Contact) == 0 {
		options.Implementation.Contact = []string{"https://clingfish.dev/support"}
	}
}

// summarise prints what a person wants to know of the report.
func summarise(path string, took time.Duration) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var found report.ConformanceReport
	if err := yaml.Unmarshal(text, &found); err != nil {
		return err
	}
	var passed, failed, skipped uint32
	fmt.Printf("\nGateway API %s (%s), %.0f s\n", found.GatewayAPIVersion, found.GatewayAPIChannel, took.Seconds())
	for _, profile := range found.ProfileReports {
		line("core", profile.Name, profile.Core, nil, nil)
		count(&passed, &failed, &skipped, profile.Core)
		if profile.Extended != nil {
			line("extended", profile.Name, profile.Extended.Status, profile.Extended.SupportedFeatures, profile.Extended.UnsupportedFeatures)
			count(&passed, &failed, &skipped, profile.Extended.Status)
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return nil
}

func count(passed, failed, skipped *uint32, status report.Status) {
	*passed += status.Statistics.Passed
	*failed += status.Statistics.Failed
	*skipped += status.Statistics.Skipped
}

func line(part, profile string, status report.Status, claimed, unclaimed []string) {
	s := status.Statistics
	fmt.Printf("%-14s %-9s %-8s passed %d, failed %d, skipped %d", profile, part, status.Result, s.Passed, s.Failed, s.Skipped)
	if len(claimed)+len(unclaimed) > 0 {
		slices.Sort(claimed)
		slices.Sort(unclaimed)
		fmt.Printf("; %d features claimed, %d not", len(claimed), len(unclaimed))
	}
	fmt.Println()
	list("claimed", claimed)
	list("not claimed", unclaimed)
	list("failed", status.FailedTests)
	list("skipped", status.SkippedTests)
}

func list(what string, names []string) {
	if len(names) > 0 {
		fmt.Printf("  %s: %s\n", what, strings.Join(names, ", "))
	}
}
