//! The snapshot as stable, sorted JSON.
//!
//! Nothing that differs between two ways to the same configuration is shown: no `ClusterId`, no address of an `Arc`.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Value, json};

use crate::base::crypto;
use crate::lb::WeightedSplit;

use super::{
    Action, Backend, BackendName, Bind, BindProtocol, Certificate, CircuitBreakers, ClientProfile, Cluster, ClusterState, Cors, CorsList,
    EscapedSlashesAction, Filters, Forward, Fraction, HeaderOps, HeadersWithUnderscores, Host, HostIdentity, HostRoutes, Listener, Mirror,
    PathMatch, PathNormalization, PathRewrite, ProxyProtocolVersion, Redirect, RouteEntry, Snapshot, Target, TlsSettings, TlsTermination,
    Trust, UpstreamProtocol, UpstreamTls, UrlRewrite, ValueMatch,
    dump_policy::{dump_affinity, dump_place, dump_policy, millis},
};

/// Everything in the snapshot that a person may want to see, with keys in alphabetical order; no secret.
///
/// It is written piece by piece: as one tree of values, thousands of routes would take ten times as much memory as their text.
#[derive(Clone, Copy, Debug)]
pub struct Dump<'a>(&'a Snapshot);

/// The snapshot as one value; for much of it see `Dump`.
pub fn dump(snapshot: &Snapshot) -> Value {
    // It holds nothing that JSON cannot hold.
    serde_json::to_value(Dump::of(snapshot)).unwrap_or_default()
}

struct BindDump<'a>(&'a Bind);

struct ListenerDump<'a>(&'a Listener);

struct HostDump<'a>(&'a HostRoutes);

/// A list whose members are made one by one.
struct Each<F>(F);

impl<I, F> Serialize for Each<F>
where
    I: Iterator<Item: Serialize>,
    F: Fn() -> I,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

impl<'a> Dump<'a> {
    /// The snapshot for a serializer.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        Self(snapshot)
    }
}

impl Serialize for Dump<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut clusters: Vec<&Cluster> = self.0.clusters.iter().flatten().map(AsRef::as_ref).collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("binds", &Each(|| self.0.binds.values().map(|bind| BindDump(bind))))?;
        map.serialize_entry("clusters", &Each(|| clusters.iter().map(|cluster| dump_cluster(cluster))))?;
        map.end()
    }
}

impl Serialize for BindDump<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(bind) = self;
        let (protocol, tls) = match &bind.protocol {
            BindProtocol::Http => ("HTTP", None),
            BindProtocol::Https(tls) => ("HTTPS", Some(dump_tls(tls))),
            BindProtocol::Tls(tls) => ("TLS", Some(dump_tls(tls))),
            BindProtocol::Tcp => ("TCP", None),
            BindProtocol::Udp => ("UDP", None),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("address", &bind.address.to_string())?;
        map.serialize_entry("gateway", &bind.gateway.to_string())?;
        if let Some(identity) = &bind.host_identity {
            map.serialize_entry("host_identity_sha256", &*identity.fingerprint)?;
        }
        map.serialize_entry("listeners", &Each(|| bind.listeners.iter().map(|(_, listener)| ListenerDump(listener))))?;
        map.serialize_entry("port", &bind.port)?;
        map.serialize_entry("profile", &dump_profile(&bind.profile))?;
        map.serialize_entry("protocol", protocol)?;
        if let Some(tls) = tls {
            map.serialize_entry("tls", &tls)?;
        }
        map.end()
    }
}

impl Serialize for ListenerDump<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(listener) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("hostname", &listener.hostname.to_string())?;
        map.serialize_entry("hosts", &Each(|| listener.hosts.iter().map(|(_, routes)| HostDump(routes))))?;
        map.serialize_entry("name", &*listener.name)?;
        if let Some(refusal) = &listener.refusal {
            map.serialize_entry("refusal", refusal)?;
        }
        map.end()
    }
}

impl Serialize for HostDump<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("hostname", &self.0.hostname.to_string())?;
        map.serialize_entry("routes", &Each(|| self.0.entries().iter().map(|entry| dump_entry(entry))))?;
        map.end()
    }
}

fn dump_profile(profile: &ClientProfile) -> Value {
    let mut shown = json!({
        "use_remote_address": profile.use_remote_address,
        "xff_num_trusted_hops": profile.xff_num_trusted_hops,
        "server_header": text(&profile.server_header),
    });
    // Without the settings nothing is done to paths, and there is nothing to show.
    if profile.path != PathNormalization::default()
        && let Some(shown) = shown.as_object_mut()
    {
        shown.insert("merge_slashes".to_owned(), profile.path.merge_slashes.into());
        shown.insert("path_with_escaped_slashes_action".to_owned(), escaped_slashes(profile.path.escaped_slashes).into());
    }
    if profile.headers_with_underscores != HeadersWithUnderscores::default()
        && let Some(shown) = shown.as_object_mut()
    {
        let action = match profile.headers_with_underscores {
            HeadersWithUnderscores::DropGuarded => "DROP_GUARDED",
            HeadersWithUnderscores::Allow => "ALLOW",
            HeadersWithUnderscores::RejectRequest => "REJECT_REQUEST",
            HeadersWithUnderscores::DropHeader => "DROP_HEADER",
        };
        shown.insert("headers_with_underscores_action".to_owned(), action.into());
    }
    shown
}

/// Envoy's name of the action.
fn escaped_slashes(action: EscapedSlashesAction) -> &'static str {
    match action {
        EscapedSlashesAction::KeepUnchanged => "KEEP_UNCHANGED",
        EscapedSlashesAction::RejectRequest => "REJECT_REQUEST",
        EscapedSlashesAction::UnescapeAndRedirect => "UNESCAPE_AND_REDIRECT",
        EscapedSlashesAction::UnescapeAndForward => "UNESCAPE_AND_FORWARD",
    }
}

/// Certificates are public; their keys are not shown.
fn dump_tls(tls: &TlsTermination) -> Value {
    let certificate = |certificate: &Arc<Certificate>| {
        json!({
            "secret": certificate.secret.to_string(),
            "names": certificate.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "sha256": certificate.fingerprint,
        })
    };
    let listeners = tls.listeners().map(|(hostname, listener)| {
        let mut shown = json!({
            "listener": *listener.name,
            "hostname": hostname.to_string(),
            "certificates": listener.certificates.iter().map(certificate).collect::<Vec<_>>(),
        });
        // Without settings everything that the gateway offers is offered to anybody, and there is nothing to show.
        if let Some(shown) = shown.as_object_mut().filter(|_| listener.settings != TlsSettings::default()) {
            shown.insert("settings".to_owned(), dump_tls_settings(&listener.settings));
        }
        shown
    });
    listeners.collect()
}

fn dump_tls_settings(settings: &TlsSettings) -> Value {
    let suites = settings.cipher_suites.iter().flatten().map(|suite| suite.as_str()).collect::<Vec<_>>();
    let groups = settings.groups.iter().flatten().map(|group| group.as_str()).collect::<Vec<_>>();
    let clients = settings.client_validation.as_ref().map(|clients| {
        json!({
            "mode": clients.mode.as_str(),
            "authorities": clients.authorities.iter().map(|authority| crypto::sha256(authority)).collect::<Vec<_>>(),
            "subject_alt_names": clients.subject_alt_names,
        })
    });
    json!({
        "versions": settings.versions.names(),
        "cipher_suites": settings.cipher_suites.is_some().then_some(suites),
        "groups": settings.groups.is_some().then_some(groups),
        "clients": clients,
    })
}

fn dump_entry(entry: &RouteEntry) -> Value {
    let rule = &entry.rule;
    let headers = entry.matcher.headers.iter().map(|header| dump_value(header.name.as_str(), &header.value));
    let query = entry.matcher.query.iter().map(|parameter| dump_value(&parameter.name, &parameter.value));
    json!({
        "path": dump_path(&entry.path),
        "method": entry.matcher.method.as_ref().map(http::Method::as_str),
        "headers": headers.collect::<Vec<_>>(),
        "query": query.collect::<Vec<_>>(),
        "route": rule.route.to_string(),
        "rule": rule.index,
        "match": entry.match_index,
        "action": dump_action(&rule.action),
        "filters": rule.filters.as_deref().map(dump_filters),
        "policy": dump_policy(&rule.policy),
    })
}

fn dump_path(path: &PathMatch) -> Value {
    match path {
        PathMatch::Exact(path) => json!({ "exact": path }),
        PathMatch::Prefix(prefix) => json!({ "prefix": if prefix.is_empty() { "/" } else { prefix } }),
        PathMatch::Regex(regex) => json!({ "regex": regex.source() }),
    }
}

fn dump_value(name: &str, value: &ValueMatch) -> Value {
    match value {
        ValueMatch::Exact(value) => json!({ "name": name, "exact": value }),
        ValueMatch::Regex(pattern) => json!({ "name": name, "regex": pattern.source() }),
    }
}

fn dump_action(action: &Action) -> Value {
    match action {
        Action::Forward(forward) => json!({ "forward": dump_forward(forward) }),
        Action::Redirect(redirect) => json!({ "redirect": dump_redirect(redirect) }),
        Action::Respond(reply) => json!({ "respond": { "status": reply.status.as_u16(), "reason": reply.reason } }),
    }
}

fn dump_forward(forward: &Forward) -> Value {
    forward.backends.iter().enumerate().map(|(index, backend)| dump_backend(&forward.split, index, backend)).collect()
}

fn dump_backend(split: &WeightedSplit, index: usize, backend: &Backend) -> Value {
    let (invalid, redirect) = match &backend.target {
        Target::Cluster(_) => (None, None),
        Target::Invalid(reply) => (Some(json!({ "status": reply.status.as_u16(), "reason": reply.reason })), None),
        Target::Redirect(redirect) => (None, Some(dump_redirect(redirect))),
    };
    let mut shown = json!({
        "name": backend.name.to_string(),
        "weight": split.weight(index),
        "invalid": invalid,
        "filters": backend.filters.as_deref().map(dump_filters),
    });
    if let (Some(redirect), Some(members)) = (redirect, shown.as_object_mut()) {
        members.insert("redirect".to_owned(), redirect);
    }
    dump_cluster_name(&backend.name, &mut shown);
    shown
}

/// Beside the name of a backend, where its clusters have names of their own.
fn dump_cluster_name(backend: &BackendName, shown: &mut Value) {
    if let (Some(name), Some(members)) = (backend.own_cluster_name(), shown.as_object_mut()) {
        members.insert("cluster".to_owned(), name.into());
    }
}

fn dump_redirect(redirect: &Redirect) -> Value {
    json!({
        "scheme": redirect.scheme,
        "hostname": redirect.hostname,
        "port": redirect.port,
        "path": redirect.path.as_ref().map(dump_rewrite),
        "status": redirect.status.as_u16(),
    })
}

fn dump_rewrite(rewrite: &PathRewrite) -> Value {
    match rewrite {
        PathRewrite::Full(path) => json!({ "full": path }),
        PathRewrite::Prefix(prefix) => json!({ "prefix": prefix }),
        PathRewrite::Regex { pattern, substitution } => json!({ "regex": pattern.source(), "substitution": substitution }),
    }
}

fn dump_filters(filters: &Filters) -> Value {
    let rewrite =
        |rewrite: &UrlRewrite| json!({ "hostname": rewrite.hostname.as_ref().map(text), "path": rewrite.path.as_ref().map(dump_rewrite) });
    let mut shown = json!({
        "request_headers": filters.request_headers.iter().map(dump_header_ops).collect::<Vec<_>>(),
        "response_headers": filters.response_headers.iter().map(dump_header_ops).collect::<Vec<_>>(),
        "rewrite": filters.rewrite.as_ref().map(rewrite),
    });
    // Most rules have none of these.
    if let Some(shown) = shown.as_object_mut() {
        shown.extend(filters.cors.as_deref().map(|cors| ("cors".to_owned(), dump_cors(cors))));
        let mirrors: Vec<_> = filters.mirrors.iter().map(dump_mirror).collect();
        shown.extend((!mirrors.is_empty()).then(|| ("mirrors".to_owned(), mirrors.into())));
    }
    shown
}

fn dump_cors(cors: &Cors) -> Value {
    let list = |list: &CorsList| match list {
        CorsList::Unset => Value::Null,
        CorsList::Any => "*".into(),
        CorsList::Named(names) => text(names).into(),
    };
    json!({
        "origins": cors.origins.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "methods": list(&cors.methods),
        "headers": list(&cors.headers),
        "exposed": list(&cors.exposed),
        "credentials": cors.credentials,
        "max_age": text(&cors.max_age),
    })
}

fn dump_mirror(mirror: &Mirror) -> Value {
    let Fraction { numerator, denominator } = mirror.fraction;
    json!({ "name": mirror.name.to_string(), "fraction": format!("{numerator}/{denominator}") })
}

fn dump_header_ops(ops: &HeaderOps) -> Value {
    let pairs = |pairs: &[(HeaderName, HeaderValue)]| -> Vec<Value> {
        pairs.iter().map(|(name, value)| json!({ "name": name.as_str(), "value": shown(name, value) })).collect()
    };
    json!({
        "remove": ops.remove.iter().map(HeaderName::as_str).collect::<Vec<_>>(),
        "set": pairs(&ops.set),
        "add": pairs(&ops.add),
    })
}

/// Credentials may stand in a header filter.
fn shown(name: &HeaderName, value: &HeaderValue) -> String {
    let is_secret = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE].contains(name);
    if is_secret || value.is_sensitive() { "<not shown>".to_owned() } else { text(value) }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn dump_host_tls(tls: &UpstreamTls) -> Value {
    let names = tls.subject_alt_names.iter().map(|name| match name {
        HostIdentity::Dns(name) => json!({ "dns": name }),
        HostIdentity::Uri(name) => json!({ "uri": name }),
    });
    let trust = match &tls.trust {
        Trust::Authorities(authorities) => json!(authorities.iter().map(|authority| crypto::sha256(authority)).collect::<Vec<_>>()),
        Trust::System => json!("system"),
    };
    json!({ "server_name": tls.server_name.to_str(), "subject_alt_names": names.collect::<Vec<_>>(), "authorities_sha256": trust })
}

fn dump_cluster(cluster: &Cluster) -> Value {
    let refused = match &cluster.state {
        ClusterState::Ready => None,
        ClusterState::Refused(why) => Some(why),
    };
    let protocol = match cluster.connection.protocol {
        UpstreamProtocol::Http1 => "http1",
        UpstreamProtocol::H2c => "h2c",
    };
    let host = |host: &Host| {
        let pod = host.pod.as_ref().map(|pod| json!({ "name": format!("{}/{}", pod.namespace, pod.name), "uid": pod.uid }));
        let mut dumped = json!({ "address": *host.text, "weight": host.weight, "pod": pod });
        dump_place(host, &mut dumped);
        dumped
    };
    let mut dumped = json!({
        "name": cluster.name.to_string(),
        "refused": refused,
        "hosts": cluster.balanced().iter().map(host).collect::<Vec<_>>(),
        "table": cluster.balancer.table().map(|table| json!({ "kind": table.kind.name(), "size": table.size })),
        "connection": {
            "connect_timeout_ms": millis(cluster.connection.connect_timeout),
            "idle_timeout_ms": millis(cluster.connection.idle_timeout),
            "max_requests_per_connection": cluster.connection.max_requests_per_connection,
            "protocol": protocol,
        },
        "close_connections_on_host_set_change": cluster.close_connections_on_host_set_change,
    });
    dump_cluster_name(&cluster.name, &mut dumped);
    if let (false, Some(members)) = (cluster.draining().is_empty(), dumped.as_object_mut()) {
        members.insert("draining".to_owned(), cluster.draining().iter().map(host).collect());
    }
    if let (false, Some(members)) = (cluster.vacant.is_empty(), dumped.as_object_mut()) {
        members.insert("vacant_slots".to_owned(), cluster.vacant.iter().map(|slot| slot.number).collect());
    }
    if let (Some(affinity), Some(members)) = (&cluster.affinity, dumped.as_object_mut()) {
        members.insert("affinity".to_owned(), dump_affinity(affinity));
    }
    if let (Some(version), Some(members)) = (cluster.connection.proxy_protocol, dumped.as_object_mut()) {
        let version = match version {
            ProxyProtocolVersion::V1 => "V1",
            ProxyProtocolVersion::V2 => "V2",
        };
        members.insert("proxy_protocol".to_owned(), version.into());
    }
    if let (Some(tls), Some(members)) = (&cluster.connection.tls, dumped.as_object_mut()) {
        members.insert("tls".to_owned(), dump_host_tls(tls));
    }
    if let (Some(breakers), Some(members)) = (dump_breakers(&cluster.circuit_breakers), dumped.as_object_mut()) {
        members.insert("circuit_breakers".to_owned(), breakers);
    }
    if let (Some(meanwhile), Some(members)) = (cluster.table_state.meanwhile(), dumped.as_object_mut()) {
        members.insert("table_is_being_built_meanwhile".to_owned(), json!(meanwhile));
    }
    if let (Some(why), Some(members)) = (&cluster.no_hosts, dumped.as_object_mut()) {
        members.insert("no_hosts".to_owned(), json!(why));
    }
    dumped
}

/// What differs from the process's defaults.
fn dump_breakers(breakers: &CircuitBreakers) -> Option<Value> {
    let CircuitBreakers { max_connections, max_pending_requests, max_requests, max_retries } = *breakers;
    (*breakers != CircuitBreakers::default()).then(|| {
        json!({
            "max_connections": max_connections,
            "max_pending_requests": max_pending_requests,
            "max_requests": max_requests,
            "max_retries": max_retries,
        })
    })
}

/// Whole milliseconds are what configuration can say.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Kind, ObjectName};
    use crate::lb::{Balancer, BalancerConfig, LbHost, Policy, RingConfig};
    use crate::snapshot::{
        BackendName, ClientProfile, ClusterId, ConnectionOptions, CookiePolicy, Host, HostMapBuilder, Hostname, Matcher, PodRef, RouteName,
        Rule, TableState,
    };
    use crate::snapshot::{HashPolicy, HashSource, RoutePolicy};

    fn bind(entries: Vec<RouteEntry>) -> Bind {
        let mut hosts = HostMapBuilder::new();
        hosts.insert(Hostname::parse("a.example"), Arc::new(HostRoutes::build(Hostname::parse("a.example"), entries)));
        let mut listeners = HostMapBuilder::new();
        listeners.insert(
            Hostname::Any,
            Arc::new(Listener { name: "http".into(), hostname: Hostname::Any, refusal: None, hosts: hosts.build() }),
        );
        Bind {
            address: "0.0.0.0:8080".parse().unwrap(),
            gateway: Arc::new(ObjectName::new("ns", "gw")),
            port: 8080,
            protocol: BindProtocol::Http,
            profile: Arc::new(ClientProfile {
                use_remote_address: true,
                xff_num_trusted_hops: 0,
                server_header: HeaderValue::from_static("clingfish"),
                path: Default::default(),
                headers_with_underscores: Default::default(),
            }),
            host_identity: None,
            listeners: listeners.build(),
        }
    }

    fn cluster(id: u32, name: &str) -> Arc<Cluster> {
        let config = BalancerConfig { policy: Policy::RingHash(RingConfig::default()), ..BalancerConfig::default() };
        let pod = PodRef { namespace: "ns".into(), name: "pod".into(), uid: "u".into() };
        Arc::new(Cluster {
            id: ClusterId(id),
            name: BackendName { kind: Kind::Upstream, name: ObjectName::new("ns", name), port: None, policy: None, is_persistent: false },
            state: ClusterState::Ready,
            no_hosts: None,
            hosts: [Host {
                address: "10.0.0.1:80".parse().unwrap(),
                text: "10.0.0.1:80".into(),
                hash_key: None,
                pod: Some(Arc::new(pod)),
                weight: 1,
                slot: None,
                placed_since: None,
                admits: Default::default(),
                live: None,
            }]
            .into(),
            vacant: Box::default(),
            balancer: Arc::new(Balancer::build(&[LbHost::new("10.0.0.1:80")], &config).unwrap()),
            balancer_config: config,
            held: None,
            affinity: None,
            table_state: TableState::Built,
            connection: ConnectionOptions::default(),
            close_connections_on_host_set_change: false,
            circuit_breakers: CircuitBreakers::default(),
            live: Arc::default(),
        })
    }

    fn entry(id: u32) -> RouteEntry {
        let name = BackendName { kind: Kind::Upstream, name: ObjectName::new("ns", "up"), port: None, policy: None, is_persistent: false };
        let set = [(header::AUTHORIZATION, HeaderValue::from_static("Bearer hush")), (header::ACCEPT, HeaderValue::from_static("*/*"))];
        let ops = HeaderOps { set: set.into(), ..HeaderOps::default() };
        let cookie =
            CookiePolicy { name: "sid".into(), ttl_seconds: Some(60), set_cookie_suffix: "; HttpOnly".into(), secure_over_https: false };
        let hash = [HashPolicy { source: HashSource::Cookie(cookie), terminal: true }];
        let rule = Rule {
            route: Arc::new(RouteName { kind: Kind::HttpRoute, name: ObjectName::new("ns", "route") }),
            index: 2,
            action: Action::Forward(Forward {
                split: WeightedSplit::new(&[3, 1]),
                hash_split: None,
                backends: [3, 1]
                    .map(|_| Backend { name: Arc::new(name.clone()), target: Target::Cluster(ClusterId(id)), filters: None })
                    .into(),
            }),
            filters: Some(Box::new(Filters { request_headers: [ops].into(), ..Filters::default() })),
            policy: Arc::new(RoutePolicy { hash: hash.into(), ..RoutePolicy::default() }),
        };
        RouteEntry { path: PathMatch::prefix("/"), matcher: Matcher::default(), rule: Arc::new(rule), match_index: 1 }
    }

    fn snapshot(id: u32, clusters: Vec<Option<Arc<Cluster>>>) -> Snapshot {
        let bind = bind(vec![entry(id)]);
        Snapshot { binds: [(bind.bound_to(), Arc::new(bind))].into(), clusters: clusters.into() }
    }

    #[test]
    fn ids_are_not_shown_and_clusters_are_sorted() {
        let one = dump(&snapshot(0, vec![Some(cluster(0, "b")), Some(cluster(1, "a"))]));
        let two = dump(&snapshot(2, vec![None, Some(cluster(1, "a")), Some(cluster(2, "b"))]));
        assert_eq!(one, two);
        assert_eq!(one["clusters"][0]["name"], "Upstream ns/a");
        assert_eq!(
            one["clusters"][0]["hosts"][0],
            json!({ "address": "10.0.0.1:80", "weight": 1, "pod": { "name": "ns/pod", "uid": "u" } })
        );
    }

    #[test]
    fn a_route_is_shown_whole_but_for_credentials() {
        let dump = dump(&snapshot(0, vec![Some(cluster(0, "b"))]));
        assert!(!dump.to_string().contains("hush"), "{dump}");
        let route = &dump["binds"][0]["listeners"][0]["hosts"][0]["routes"][0];
        assert_eq!((&route["route"], &route["rule"], &route["match"]), (&json!("HTTPRoute ns/route"), &json!(2), &json!(1)));
        assert_eq!(route["path"], json!({ "prefix": "/" }));
        assert_eq!(route["action"]["forward"][0]["weight"], 3);
        let set = &route["filters"]["request_headers"][0]["set"];
        assert_eq!(set[0], json!({ "name": "authorization", "value": "<not shown>" }));
        assert_eq!(set[1], json!({ "name": "accept", "value": "*/*" }));
        assert_eq!(route["policy"]["hash"][0]["source"]["cookie"]["name"], "sid");
        assert_eq!(route["policy"]["timeouts"]["request_ms"], 15_000);
    }
}
