//! `loadBalancerConfig`, `connectionConfig` and `circuitBreakers`: how hosts are chosen and reached, and what they may have at once.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;

use crate::api::{CircuitBreakerConfig, ConnectionConfig, LoadBalancerConfig, Uint, UpstreamSpec, object_name};
use crate::base::text::quoted;
use crate::lb::{MaglevConfig, Policy, RingConfig};
use crate::snapshot::{CircuitBreakers, ConnectionOptions, ProxyProtocolVersion, UpstreamProtocol};
use crate::translate::gloo::fields::{UPSTREAM_FIELDS, plain_name, survey};

use super::compiled::{ClusterSettings, CompiledUpstream};

/// Envoy's default of `choice_count`.
const DEFAULT_CHOICE_COUNT: u64 = 2;

/// Hosts looked at for one request, at most: more would cost time without a better choice.
const MAX_CHOICE_COUNT: u64 = 128;

/// What `idleTimeout: 0s` (never) counts as: no connection outlives a day unused.
pub(super) const LONGEST_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

const UPSTREAM_CONFIG: &str = "gloo.solo.io/upstream_config";

/// Gloo's annotations for TLS to the pods of a Service; a value may be for one port: `443:name`
/// (`serviceconverter/use_ssl_annotation_converter.go`).
const SSL_SERVICE: [&str; 4] = [
    "gloo.solo.io/sslService.secret",
    "gloo.solo.io/sslService.tlsCert",
    "gloo.solo.io/sslService.tlsKey",
    "gloo.solo.io/sslService.rootCa",
];

/// The annotation of Gloo's that asks for TLS to a port of a Service, if there is one.
pub fn annotation_for_tls(service: &Service, port: u16) -> Option<&'static str> {
    let annotations = service.metadata.annotations.as_ref()?;
    let of_port = |value: &str| match value.split_once(':').filter(|(_, name)| !name.contains(':')) {
        Some((number, name)) => !name.is_empty() && number.parse().map_or(true, |number: u16| number == port),
        None => !value.is_empty(),
    };
    let of_service = SSL_SERVICE.into_iter().find(|name| annotations.get(*name).is_some_and(|value| of_port(value)));
    of_service.or_else(|| {
        let config = serde_json::from_str(annotations.get(UPSTREAM_CONFIG)?).ok()?;
        asks_for_tls(&config).then_some(UPSTREAM_CONFIG)
    })
}

fn asks_for_tls(config: &serde_json::Value) -> bool {
    match config {
        serde_json::Value::Object(members) => members.iter().any(|(name, member)| match plain_name(name).as_str() {
            "sslconfig" => !member.is_null(),
            "usetls" => !member.is_null() && *member != serde_json::Value::Bool(false),
            _ => asks_for_tls(member),
        }),
        serde_json::Value::Array(items) => items.iter().any(asks_for_tls),
        _ => false,
    }
}

/// The settings of a Service to whose hosts this protocol is spoken, with what its annotation `gloo.solo.io/upstream_config` gives it; those
/// that `settings` takes in are honoured. What is wrong with it comes back in words: the Service serves with the defaults then.
pub fn service_settings(service: &Service, protocol: UpstreamProtocol) -> (ClusterSettings, Vec<String>) {
    let defaults = || ClusterSettings { connection: ConnectionOptions::of(protocol), ..ClusterSettings::default() };
    let Some(text) = service.metadata.annotations.as_ref().and_then(|annotations| annotations.get(UPSTREAM_CONFIG)) else {
        return (defaults(), Vec::new());
    };
    let name = object_name(&service.metadata);
    let notice = |message: String| format!("Service {name}: annotation {UPSTREAM_CONFIG}: {message}");
    let mut json = serde_json::Deserializer::from_str(text);
    let spec: UpstreamSpec = match serde_path_to_error::deserialize(&mut json) {
        Ok(spec) => spec,
        Err(error) => return (defaults(), vec![notice(format!("is not the spec of an Upstream: {error}"))]),
    };
    let mut notices = Vec::new();
    let others = [
        (spec.kube.is_some(), "kube"),
        (spec.static_hosts.is_some(), "static"),
        (spec.proxy_protocol_version.is_some(), "proxyProtocolVersion"),
    ];
    let unmodelled = spec.other.keys().map(String::as_str);
    for field in others.into_iter().filter_map(|(set, field)| set.then_some(field)).chain(unmodelled) {
        notices.push(notice(format!(
            "field {field} is not applied: expected loadBalancerConfig, connectionConfig, circuitBreakers or useHttp2"
        )));
    }
    let protocol = match spec.use_http2 {
        Some(true) => UpstreamProtocol::H2c,
        Some(false) => UpstreamProtocol::Http1,
        None => protocol,
    };
    let mut compiled = CompiledUpstream::default();
    compiled.settings.connection = ConnectionOptions::of(protocol);
    let kept = UpstreamSpec {
        load_balancer_config: spec.load_balancer_config,
        connection_config: spec.connection_config,
        circuit_breakers: spec.circuit_breakers,
        ..UpstreamSpec::default()
    };
    for field in survey(&kept, UPSTREAM_FIELDS, &mut compiled.findings) {
        compiled.findings.refuse(field.message);
    }
    settings(&kept, &mut compiled);
    if kept.load_balancer_config.is_some_and(|lb| lb.use_hostname_for_hashing == Some(true)) {
        compiled.findings.refuse("field spec.loadBalancerConfig.useHostnameForHashing needs static hosts".to_owned());
    }
    notices.extend(compiled.findings.errors.iter().chain(&compiled.findings.warnings).map(|message| notice(message.to_string())));
    let settings = if compiled.findings.errors.is_empty() { compiled.settings } else { defaults() };
    (settings, notices)
}

/// Takes the three blocks in.
pub(super) fn settings(spec: &UpstreamSpec, compiled: &mut CompiledUpstream) {
    if let Some(config) = &spec.load_balancer_config {
        balancer(config, compiled);
    }
    if let Some(config) = &spec.connection_config {
        connection(config, compiled);
    }
    if let Some(config) = &spec.circuit_breakers {
        compiled.settings.circuit_breakers = circuit_breakers(config);
    }
}

/// The header is a client's, and so is the connection.
pub(super) fn proxy_protocol(spec: &UpstreamSpec, compiled: &mut CompiledUpstream) {
    let options = &mut compiled.settings.connection;
    options.proxy_protocol = match spec.proxy_protocol_version.as_deref() {
        None | Some("") => return,
        Some("V1") => Some(ProxyProtocolVersion::V1),
        Some("V2") => Some(ProxyProtocolVersion::V2),
        Some(other) => {
            let message = format!("field spec.proxyProtocolVersion is {}: expected V1 or V2", quoted(other));
            return compiled.findings.refuse(message);
        }
    };
    options.max_requests_per_connection = Some(1);
}

fn balancer(config: &LoadBalancerConfig, compiled: &mut CompiledUpstream) {
    let set = [
        (config.round_robin.is_some(), "roundRobin"),
        (config.least_request.is_some(), "leastRequest"),
        (config.random.is_some(), "random"),
        (config.ring_hash.is_some(), "ringHash"),
        (config.maglev.is_some(), "maglev"),
    ];
    let set: Vec<&str> = set.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    if set.len() > 1 {
        compiled.findings.refuse(format!("field spec.loadBalancerConfig has {}: expected one algorithm", set.join(" and ")));
        return;
    }
    compiled.settings.balancer.policy = if let Some(least) = &config.least_request {
        least_request(least.choice_count.map_or(0, |count| count.0), compiled)
    } else if let Some(ring) = &config.ring_hash {
        let sizes = ring.ring_hash_config.clone().unwrap_or_default();
        ring_hash(sizes.minimum_ring_size.map_or(0, |size| size.0), sizes.maximum_ring_size.map_or(0, |size| size.0), compiled)
    } else if config.maglev.is_some() {
        Policy::Maglev(MaglevConfig::default())
    } else if config.random.is_some() {
        Policy::Random
    } else {
        Policy::RoundRobin
    };
    if let Some(percent) = config.healthy_panic_threshold {
        if (0.0..=100.0).contains(&percent) {
            compiled.settings.balancer.healthy_panic_threshold = percent;
        } else {
            compiled.findings.refuse(format!("field spec.loadBalancerConfig.healthyPanicThreshold is {percent}: expected 0 to 100"));
        }
    }
    if config.update_merge_window.is_some_and(|window| window.to_std().is_none()) {
        compiled.findings.refuse("field spec.loadBalancerConfig.updateMergeWindow is negative: expected 0s or more".to_owned());
    }
    compiled.settings.hash_hostnames = config.use_hostname_for_hashing == Some(true);
    compiled.settings.close_connections_on_host_set_change = config.close_connections_on_host_set_change == Some(true);
}

fn least_request(choice_count: u64, compiled: &mut CompiledUpstream) -> Policy {
    const FIELD: &str = "field spec.loadBalancerConfig.leastRequest.choiceCount";
    let choice_count = match choice_count {
        0 => DEFAULT_CHOICE_COUNT,
        1 => {
            compiled.findings.refuse(format!("{FIELD} is 1: expected 2 or more"));
            DEFAULT_CHOICE_COUNT
        }
        count if count > MAX_CHOICE_COUNT => {
            compiled.findings.warn(format!("{FIELD} is {count}, it counts as {MAX_CHOICE_COUNT}"));
            MAX_CHOICE_COUNT
        }
        count => count,
    };
    Policy::LeastRequest { choice_count: u32::try_from(choice_count).unwrap_or(u32::MAX) }
}

/// `0` is the default.
fn ring_hash(minimum: u64, maximum: u64, compiled: &mut CompiledUpstream) -> Policy {
    const FIELD: &str = "field spec.loadBalancerConfig.ringHash.ringHashConfig";
    let default = RingConfig::default();
    let or_default = |size: u64, default: u64| if size == 0 { default } else { size };
    let ring = RingConfig {
        minimum_ring_size: or_default(minimum, default.minimum_ring_size),
        maximum_ring_size: or_default(maximum, default.maximum_ring_size),
        ..default
    };
    let limit = default.maximum_ring_size;
    for (name, size) in [("minimumRingSize", ring.minimum_ring_size), ("maximumRingSize", ring.maximum_ring_size)] {
        if size > limit {
            compiled.findings.refuse(format!("{FIELD}.{name} is {size}: expected at most {limit}"));
            return Policy::RingHash(default);
        }
    }
    if ring.minimum_ring_size > ring.maximum_ring_size {
        let origin = |size: u64| if size == 0 { " (default)" } else { "" };
        compiled.findings.refuse(format!(
            "{FIELD}.minimumRingSize is {}{} and maximumRingSize is {}{}: expected a minimum that is not greater than the maximum",
            ring.minimum_ring_size,
            origin(minimum),
            ring.maximum_ring_size,
            origin(maximum)
        ));
        return Policy::RingHash(default);
    }
    Policy::RingHash(ring)
}

/// What is not given is left to the process's defaults, as Gloo leaves it to Envoy's.
fn circuit_breakers(config: &CircuitBreakerConfig) -> CircuitBreakers {
    let limit = |given: Option<Uint>| given.map(|given| u32::try_from(given.0).unwrap_or(u32::MAX));
    CircuitBreakers {
        max_connections: limit(config.max_connections),
        max_pending_requests: limit(config.max_pending_requests),
        max_requests: limit(config.max_requests),
        max_retries: limit(config.max_retries),
    }
}

fn connection(config: &ConnectionConfig, compiled: &mut CompiledUpstream) {
    let options = &mut compiled.settings.connection;
    options.max_requests_per_connection =
        config.max_requests_per_connection.filter(|max| max.0 != 0).map(|max| u32::try_from(max.0).unwrap_or(u32::MAX));
    if let Some(timeout) = config.connect_timeout {
        match timeout.to_std().filter(|timeout| !timeout.is_zero()) {
            Some(timeout) => options.connect_timeout = timeout,
            None => compiled.findings.refuse(format!("field spec.connectionConfig.connectTimeout is {timeout}: expected more than 0s")),
        }
    }
    if let Some(timeout) = config.common_http_protocol_options.as_ref().and_then(|common| common.idle_timeout) {
        match timeout.to_std() {
            Some(Duration::ZERO) => options.idle_timeout = LONGEST_IDLE,
            Some(timeout) => options.idle_timeout = timeout.min(LONGEST_IDLE),
            None => compiled
                .findings
                .refuse(format!("field spec.connectionConfig.commonHttpProtocolOptions.idleTimeout is {timeout}: expected 0s or more")),
        }
    }
}
