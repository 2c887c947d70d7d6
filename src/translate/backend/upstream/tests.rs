use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::{Value, json};

use crate::base::{ObjectName, ObjectRef};
use crate::lb::SlotMap;
use crate::lb::{MaglevConfig, Policy, RingConfig, RingHashFunction};
use crate::snapshot::{CircuitBreakers, ProxyProtocolVersion};
use crate::translate::{
    backend::endpoints::StraySlice,
    gloo::{
        findings::Findings,
        status::{UpstreamFacts, upstream_status},
    },
    options::CrossNamespace,
    status::GlooState,
};

use super::settings::LONGEST_IDLE;
use super::*;

/// A cluster with what the tests need: Service `httpbin/httpbin` with ports 8000 and 9000.
#[derive(Default)]
pub(in crate::translate) struct View {
    pub(in crate::translate) services: BTreeMap<ObjectName, Service>,
    pub(in crate::translate) slices: Vec<EndpointSlice>,
    pub(in crate::translate) granted: bool,
    pub(in crate::translate) dns: BTreeMap<String, Vec<IpAddr>>,
}

impl BackendView for View {
    fn stray_slice(&self, _service: &ObjectName) -> Option<StraySlice> {
        None
    }

    fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)
    }
    fn slices(&self, _: &ObjectName) -> Vec<&EndpointSlice> {
        self.slices.iter().collect()
    }
    fn may_reference(&self, _: &str, _: &ObjectName) -> bool {
        self.granted
    }
    fn dns(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        self.dns.get(name).map(|addresses| addresses.as_slice().into())
    }
    fn slots(&self, _: &ObjectRef) -> Option<(SlotMap, Option<&SlotMap>)> {
        None
    }
    fn second(&self) -> Option<u64> {
        None
    }
}

pub(in crate::translate) const RULES: EndpointRules =
    EndpointRules { ipv6: false, allow_local: false, own: [None; 2], by_ordinal: false, keeps_draining: false };

pub(in crate::translate) fn view() -> View {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "httpbin", "namespace": "httpbin"},
        "spec": {"ports": [{"name": "http", "port": 8000}, {"name": "tcp", "port": 9000}]},
    });
    let services = BTreeMap::from([(ObjectName::new("httpbin", "httpbin"), serde_json::from_value(service).unwrap())]);
    View { services, granted: true, ..View::default() }
}

pub(in crate::translate) fn upstream(spec: &Value) -> Upstream {
    serde_json::from_value(json!({"metadata": {"name": "httpbin", "namespace": "gloo-system"}, "spec": spec})).unwrap()
}

fn compiled(spec: &Value) -> CompiledUpstream {
    compile(&upstream(spec), &view(), RULES)
}

/// The guide's Upstream, with these further fields.
pub(in crate::translate) fn guide(more: Value) -> Value {
    let mut spec = json!({"kube": {"serviceName": "httpbin", "serviceNamespace": "httpbin", "servicePort": 8000}});
    let Value::Object(more) = more else { panic!("an object") };
    spec.as_object_mut().unwrap().extend(more);
    spec
}

fn lb(config: &Value) -> CompiledUpstream {
    compiled(&guide(json!({"loadBalancerConfig": config})))
}

#[test]
fn the_guide_is_accepted() {
    for (spec, policy) in [
        (guide(json!({})), Policy::RoundRobin),
        (guide(json!({"loadBalancerConfig": {"maglev": {}}})), Policy::Maglev(MaglevConfig::default())),
        (guide(json!({"loadBalancerConfig": {"ringHash": {}}})), Policy::RingHash(RingConfig::default())),
    ] {
        let compiled = compiled(&spec);
        assert_eq!(compiled.findings, Findings::default(), "{spec}");
        assert_eq!(compiled.refused, None);
        assert_eq!(compiled.settings.balancer.policy, policy);
        assert_eq!(compiled.service, Some(ObjectName::new("httpbin", "httpbin")));
        assert!(matches!(compiled.hosts, UpstreamHosts::Service(port) if port.port == 8000));
    }
}

#[test]
fn ring_sizes() {
    let sizes = |minimum: u64, maximum: u64| {
        Policy::RingHash(RingConfig { minimum_ring_size: minimum, maximum_ring_size: maximum, hash_function: RingHashFunction::XxHash })
    };
    for (config, policy) in [
        (json!({"minimumRingSize": 10, "maximumRingSize": 200}), sizes(10, 200)),
        (json!({"minimumRingSize": "10", "maximumRingSize": "200"}), sizes(10, 200)),
        (json!({"minimumRingSize": 0, "maximumRingSize": "0"}), sizes(1024, 8_388_608)),
        (json!({"maximumRingSize": 1024}), sizes(1024, 1024)),
        (json!({}), sizes(1024, 8_388_608)),
    ] {
        let compiled = lb(&json!({"ringHash": {"ringHashConfig": config}}));
        assert_eq!((compiled.settings.balancer.policy, compiled.refused), (policy, None), "{config}");
    }
}

/// Each of these has state Rejected, answers 500, and its reason contains the text.
#[test]
fn refused() {
    let ring = |config: Value| guide(json!({"loadBalancerConfig": {"ringHash": {"ringHashConfig": config}}}));
    let lb = |config: Value| guide(json!({"loadBalancerConfig": config}));
    let kube = |kube: Value| json!({"kube": kube});
    let hosts = |hosts: Value| json!({"static": {"hosts": hosts}});
    let connection = |config: Value| guide(json!({"connectionConfig": config}));
    for (spec, reason) in [
        (ring(json!({"minimumRingSize": 300, "maximumRingSize": 200})), "ringHashConfig.minimumRingSize is 300 and maximumRingSize is 200"),
        (ring(json!({"maximumRingSize": 200})), "minimumRingSize is 1024 (default) and maximumRingSize is 200"),
        (ring(json!({"maximumRingSize": 8_388_609})), "maximumRingSize is 8388609: expected at most 8388608"),
        (ring(json!({"minimumRingSize": 8_388_609})), "minimumRingSize is 8388609: expected at most 8388608"),
        (lb(json!({"ringHash": {}, "maglev": {}})), "spec.loadBalancerConfig has ringHash and maglev: expected one"),
        (lb(json!({"leastRequest": {"choiceCount": 1}})), "choiceCount is 1"),
        (lb(json!({"healthyPanicThreshold": 101.0})), "healthyPanicThreshold is 101"),
        (lb(json!({"healthyPanicThreshold": -1.0})), "healthyPanicThreshold is -1"),
        (lb(json!({"updateMergeWindow": "-1s"})), "updateMergeWindow is negative"),
        (lb(json!({"maglev": {}, "useHostnameForHashing": true})), "spec.loadBalancerConfig.useHostnameForHashing"),
        (connection(json!({"connectTimeout": "0s"})), "connectTimeout is 0s"),
        (connection(json!({"connectTimeout": "-1s"})), "connectTimeout is -1s"),
        (connection(json!({"commonHttpProtocolOptions": {"idleTimeout": "-1s"}})), "idleTimeout is -1s"),
        (guide(json!({"sslConfig": {"sni": "a"}})), "field spec.sslConfig is not supported"),
        (guide(json!({"healthChecks": [{"customHealthCheck": {}}]})), "spec.healthChecks[0].customHealthCheck"),
        (guide(json!({"httpProxyHostname": "a"})), "spec.httpProxyHostname"),
        (guide(json!({"static": {"hosts": []}})), "spec.kube and spec.static are both set"),
        (json!({}), "neither spec.kube nor spec.static"),
        (json!({"aws": {"region": "x"}}), "1 error occurred:\n\t* field spec.aws is not supported"),
        (json!({"consul": {}}), "field spec.consul is not supported"),
        (kube(json!({"serviceNamespace": "httpbin", "servicePort": 8000})), "spec.kube.serviceName is empty"),
        (kube(json!({"serviceName": "httpbin", "servicePort": 8000})), "spec.kube.serviceNamespace is empty"),
        (kube(json!({"serviceName": "httpbin", "serviceNamespace": "httpbin"})), "spec.kube.servicePort is 0"),
        (kube(json!({"serviceName": "httpbin", "serviceNamespace": "httpbin", "servicePort": 65536})), "spec.kube.servicePort is 65536"),
        (hosts(json!([])), "spec.static.hosts is empty"),
        (hosts(json!([{"addr": "a.example"}])), "spec.static.hosts[0].port is 0"),
        (hosts(json!([{"addr": "10.0.0.1", "port": 1}, {"addr": "a.example", "port": 65536}])), "spec.static.hosts[1].port is 65536"),
        (hosts(json!([{"addr": "a b", "port": 1}])), "spec.static.hosts[0].addr is \"a b\""),
        (hosts(json!([{"addr": "10.0.0.256", "port": 1}])), "spec.static.hosts[0].addr is \"10.0.0.256\""),
        (hosts(json!([{"port": 1}])), "spec.static.hosts[0].addr is \"\""),
        (hosts(json!([{"addr": "127.0.0.1", "port": 1}])), "spec.static.hosts[0].addr is 127.0.0.1"),
        (hosts(json!([{"addr": "::ffff:169.254.1.1", "port": 1}])), "link-local"),
        (hosts(json!([{"addr": "10.0.0.1", "port": 1, "loadBalancingWeight": 0}])), "spec.static.hosts[0].loadBalancingWeight"),
        (hosts(json!([{"addr": "10.0.0.1", "port": 443}])), "spec.static.useTls is not set and a host has port 443"),
        (json!({"static": {"useTls": true, "hosts": [{"addr": "10.0.0.1", "port": 80}]}}), "spec.static.useTls"),
    ] {
        let compiled = compiled(&spec);
        let status = compiled.findings.status();
        assert_eq!(status.state, GlooState::Rejected, "{spec}");
        assert!(status.reason.contains(reason), "{spec}: {}", status.reason);
        assert!(compiled.refused.is_some(), "{spec}");
        assert_eq!(compiled.hosts, UpstreamHosts::None, "{spec}");
    }
}

/// Each of these serves, with state Warning and this reason.
#[test]
fn warned_of() {
    for (more, reason) in [
        (
            json!({"kube": {"serviceName": "httpbin", "serviceNamespace": "httpbin", "servicePort": 8000, "serviceSpec": {"rest": {"transformations": {}}}}}),
            "field spec.kube.serviceSpec is accepted but not applied",
        ),
        (json!({"circuitBreakers": {"maxRequest": 1}}), "field spec.circuitBreakers.maxRequest is unknown"),
        (json!({"outlierDetection": {"interval": "1s"}}), "field spec.outlierDetection is accepted but not applied"),
        (json!({"loadBalancerConfig": {"leastRequest": {"choiceCount": 1000}}}), "choiceCount is 1000, it counts as 128"),
        (
            json!({"loadBalancerConfig": {"ringHash": {"ringHashConfig": {"x": 1}}}}),
            "field spec.loadBalancerConfig.ringHash.ringHashConfig.x is unknown",
        ),
        (json!({"loadBalancerConfig": {"roundRobin": {"slowStartConfig": {}}}}), "roundRobin.slowStartConfig is accepted but not applied"),
    ] {
        let compiled = compiled(&guide(more.clone()));
        assert_eq!((compiled.findings.state(), &compiled.refused), (GlooState::Warning, &None), "{more}");
        let reason_found = compiled.findings.status().reason;
        assert!(reason_found.starts_with("warning: \n  ") && reason_found.contains(reason), "{more}: {reason_found}");
    }
}

#[test]
fn http_2_to_the_hosts() {
    for (use_http2, protocol, idle) in [(true, UpstreamProtocol::H2c, 3600), (false, UpstreamProtocol::Http1, 4)] {
        let compiled = compiled(&guide(json!({"useHttp2": use_http2})));
        assert_eq!((compiled.findings, compiled.settings.connection.protocol), (Findings::default(), protocol));
        assert_eq!(compiled.settings.connection.idle_timeout, Duration::from_secs(idle));
    }
    let config = json!({"useHttp2": true, "connectionConfig": {"commonHttpProtocolOptions": {"idleTimeout": "90s"}}});
    assert_eq!(compiled(&guide(config)).settings.connection.idle_timeout, Duration::from_secs(90));
}

#[test]
fn hosts_are_told_who_the_client_is() {
    for (written, version, requests) in
        [("V1", Some(ProxyProtocolVersion::V1), Some(1)), ("V2", Some(ProxyProtocolVersion::V2), Some(1)), ("", None, None)]
    {
        let compiled = compiled(&guide(json!({"proxyProtocolVersion": written})));
        let options = compiled.settings.connection;
        assert_eq!((compiled.findings, options.proxy_protocol), (Findings::default(), version), "{written}");
        assert_eq!(options.max_requests_per_connection, requests, "a connection is for one client: {written}");
    }
    let wrong = compiled(&guide(json!({"proxyProtocolVersion": "2"})));
    assert_eq!(wrong.findings.errors[0].to_string(), "field spec.proxyProtocolVersion is \"2\": expected V1 or V2");
}

#[test]
fn silent_fields_are_silent() {
    let more = json!({
        "useHttp2": false, "discoveryMetadata": {"labels": {}}, "namespacedStatuses": {}, "disableIstioAutoMtls": true, "healthChecks": [],
        "circuitBreakers": {"trackRemaining": true},
        "loadBalancerConfig": {"updateMergeWindow": "0s", "useHostnameForHashing": false, "closeConnectionsOnHostSetChange": true, "healthyPanicThreshold": 0},
    });
    let compiled = compiled(&guide(more));
    assert_eq!(compiled.findings, Findings::default());
    assert!(compiled.settings.close_connections_on_host_set_change);
    assert!(compiled.settings.balancer.healthy_panic_threshold.abs() < f64::EPSILON);
}

#[test]
fn connections() {
    let config = json!({"connectTimeout": "250ms", "maxRequestsPerConnection": 7, "commonHttpProtocolOptions": {"idleTimeout": "90s"}});
    let options = compiled(&guide(json!({"connectionConfig": config}))).settings.connection;
    assert_eq!(options.connect_timeout, Duration::from_millis(250));
    assert_eq!(options.max_requests_per_connection, Some(7));
    assert_eq!(options.idle_timeout, Duration::from_secs(90));
    let never = json!({"maxRequestsPerConnection": 0, "commonHttpProtocolOptions": {"idleTimeout": "0s"}});
    let options = compiled(&guide(json!({"connectionConfig": never}))).settings.connection;
    assert_eq!((options.max_requests_per_connection, options.idle_timeout), (None, LONGEST_IDLE));
}

#[test]
fn circuit_breakers_are_given_or_left_to_the_process() {
    let read = |config: Value| compiled(&guide(json!({"circuitBreakers": config}))).settings.circuit_breakers;
    let all = json!({"maxConnections": 1, "maxPendingRequests": "2", "maxRequests": 0, "maxRetries": 99_999_999_999_u64});
    assert_eq!(
        read(all),
        CircuitBreakers { max_connections: Some(1), max_pending_requests: Some(2), max_requests: Some(0), max_retries: Some(u32::MAX) }
    );
    assert_eq!(read(json!({})), CircuitBreakers::default());
}

#[test]
fn other_algorithms() {
    assert_eq!(lb(&json!({"random": {}})).settings.balancer.policy, Policy::Random);
    assert_eq!(lb(&json!({"roundRobin": {}})).settings.balancer.policy, Policy::RoundRobin);
    assert_eq!(lb(&json!({"leastRequest": {}})).settings.balancer.policy, Policy::LeastRequest { choice_count: 2 });
    assert_eq!(lb(&json!({"leastRequest": {"choiceCount": "5"}})).settings.balancer.policy, Policy::LeastRequest { choice_count: 5 });
}

#[test]
fn a_missing_service_is_rejected_but_answers_503() {
    let spec = json!({"kube": {"serviceName": "gone", "serviceNamespace": "httpbin", "servicePort": 8000}});
    let compiled = compiled(&spec);
    assert_eq!((compiled.findings.state(), &compiled.refused), (GlooState::Rejected, &None));
    assert!(compiled.findings.status().reason.contains("references the service 'gone' which does not exist in namespace 'httpbin'"));
    assert_eq!(compiled.service, Some(ObjectName::new("httpbin", "gone")));
    // A further error makes it a refusal.
    let mut wrong = spec;
    wrong.as_object_mut().unwrap().insert("sslConfig".to_owned(), json!({}));
    assert!(compile(&upstream(&wrong), &view(), RULES).refused.is_some());
}

#[test]
fn a_missing_port_is_warned_of() {
    let compiled = compiled(&json!({"kube": {"serviceName": "httpbin", "serviceNamespace": "httpbin", "servicePort": 1}}));
    assert_eq!((compiled.findings.state(), &compiled.refused), (GlooState::Warning, &None));
    assert!(compiled.findings.status().reason.contains("port 1 not found on Service httpbin/httpbin"));
}

#[test]
fn another_namespace_needs_permission_and_learns_nothing() {
    let not_granted = View { granted: false, ..view() };
    for name in ["httpbin", "gone"] {
        let spec = json!({"kube": {"serviceName": name, "serviceNamespace": "httpbin", "servicePort": 8000}});
        let compiled = compile(&upstream(&spec), &not_granted, RULES);
        assert!(compiled.refused.is_some());
        let reason = compiled.findings.status().reason;
        assert!(reason.contains("expected a ReferenceGrant in namespace httpbin") && !reason.contains("exist"), "{reason}");
    }
    // Its own namespace is open to it.
    let own = json!({"kube": {"serviceName": "a", "serviceNamespace": "gloo-system", "servicePort": 1}});
    assert_eq!(compile(&upstream(&own), &not_granted, RULES).refused, None);
}

#[test]
fn who_may_cross_namespaces() {
    let release = CrossNamespace::ReleaseNamespace("gloo-system".into());
    for (setting, namespace, granted, may) in [
        (&CrossNamespace::Any, "a", false, true),
        (&CrossNamespace::Grant, "gloo-system", false, false),
        (&CrossNamespace::Grant, "a", true, true),
        (&release, "gloo-system", false, true),
        (&release, "a", false, false),
        (&release, "a", true, true),
    ] {
        assert_eq!(may_cross_namespaces(setting, namespace, || granted), may, "{setting:?} {namespace}");
    }
}

#[test]
fn external_names_are_refused() {
    let mut view = view();
    view.services.values_mut().for_each(|service| service.spec.as_mut().unwrap().type_ = Some("ExternalName".to_owned()));
    let compiled = compile(&upstream(&guide(json!({}))), &view, RULES);
    assert!(compiled.refused.is_some());
    assert!(compiled.findings.status().reason.contains("ExternalName"));
}

#[test]
fn static_hosts_by_address_and_name() {
    let spec = json!({
        "static": {"hosts": [
            {"addr": "10.0.0.2", "port": 80, "loadBalancingWeight": 3}, {"addr": "API.example.com", "port": "8080"}, {"addr": "fd00::1", "port": 1},
        ]},
        "loadBalancerConfig": {"maglev": {}, "useHostnameForHashing": true},
    });
    let compiled = compiled(&spec);
    assert_eq!(compiled.refused, None);
    assert_eq!(
        compiled.findings.warnings,
        ["field spec.static.hosts[2].addr is fd00::1: left out, there is no IPv6 address here to reach it from"]
    );
    assert_eq!(compiled.dns_names, BTreeSet::from(["api.example.com".into()]));
    assert!(compiled.settings.hash_hostnames);
    let UpstreamHosts::Static(hosts) = compiled.hosts else { panic!("static hosts") };
    let found: Vec<_> = hosts.iter().map(|host| (&*host.name, host.address.is_some(), host.port, host.weight)).collect();
    assert_eq!(found, [("10.0.0.2", true, 80, 3), ("api.example.com", false, 8080, 1)]);
    let plain = json!({"static": {"useTls": false, "hosts": [{"addr": "10.0.0.1", "port": 443}]}});
    assert_eq!(compile(&upstream(&plain), &view(), RULES).refused, None);
}

#[test]
fn a_service_may_bring_settings_in_its_annotation() {
    let service = |annotation: &str| -> Service {
        let metadata = json!({"name": "s", "namespace": "n", "annotations": {"gloo.solo.io/upstream_config": annotation}});
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata})).unwrap()
    };
    let (settings, notices) = service_settings(&service(r#"{"loadBalancerConfig":{"maglev":{}}}"#), UpstreamProtocol::Http1);
    assert_eq!((settings.balancer.policy, notices.len()), (Policy::Maglev(MaglevConfig::default()), 0));
    let annotation = r#"{"loadBalancerConfig":{"ringHash":{}},"useHttp2":true,"healthChecks":[],"proxyProtocolVersion":"V2"}"#;
    let (settings, notices) = service_settings(&service(annotation), UpstreamProtocol::Http1);
    assert_eq!((settings.balancer.policy, notices.len()), (Policy::RingHash(RingConfig::default()), 2));
    assert_eq!(settings.connection, ConnectionOptions::of(UpstreamProtocol::H2c));
    for wrong in [
        "",
        "{",
        r#"{"loadBalancerConfig":5}"#,
        r#"{"loadBalancerConfig":{"maglev":{},"random":{}}}"#,
        r#"{"loadBalancerConfig":{"useHostnameForHashing":true}}"#,
    ] {
        let (settings, notices) = service_settings(&service(wrong), UpstreamProtocol::Http1);
        assert_eq!((settings, notices.len()), (ClusterSettings::default(), 1), "{wrong}");
        assert!(notices[0].starts_with("Service n/s: annotation gloo.solo.io/upstream_config: "));
    }
}

#[test]
fn a_hash_without_a_key_is_warned_of() {
    let facts = UpstreamFacts { rules_without_key: vec!["HTTPRoute a/b rule 0".to_owned()], ..UpstreamFacts::default() };
    let status = upstream_status(&lb(&json!({"maglev": {}})), &facts);
    assert_eq!(status.state, GlooState::Warning);
    assert!(status.reason.contains("HTTPRoute a/b rule 0 has no hash key"), "{}", status.reason);
    assert_eq!(upstream_status(&lb(&json!({})), &facts).state, GlooState::Accepted);
}
