//! The message for an object whose newest version could not be decoded: it says whether an older version serves. Also decides which of those
//! older versions are kept beyond the process, since they exist nowhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use crate::api::{self, Document, Object};
use crate::base::ObjectRef;
use crate::translate::{
    Condition, Refused,
    condition::{fails, kind, reason},
};

/// Most versions that are kept.
const MAX_VERSIONS: usize = 256;

/// Most bytes that the kept versions have together, as JSON: a ConfigMap holds 1 MiB.
const MAX_BYTES: usize = 512 << 10;

/// How many objects a notice lists.
const MAX_LISTED: usize = 3;

/// The last version of an object that could be read, while its newest one cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastGoodVersion {
    /// The object; never a Secret.
    pub object: ObjectRef,
    /// `metadata.uid`; absent in a directory of manifests.
    pub uid: Option<Box<str>>,
    /// The file that declares it, where that whole file cannot be parsed.
    pub file: Option<Arc<str>>,
    /// The object as JSON.
    pub document: Box<str>,
}

/// What is to be kept beyond the process.
pub type LastGood = Vec<LastGoodVersion>;

/// Which of these are kept, and which there is no room for. The smallest first, then by kind and name: nobody's is given up because somebody
/// else's is large.
pub(super) fn choose(versions: impl IntoIterator<Item = LastGoodVersion>) -> (LastGood, BTreeSet<ObjectRef>) {
    let mut ranked: BTreeMap<(usize, ObjectRef), LastGoodVersion> = BTreeMap::new();
    let (mut bytes, mut left_out) = (0, BTreeSet::new());
    for version in versions {
        bytes += version.document.len();
        ranked.insert((version.document.len(), version.object.clone()), version);
        // At once: a file that cannot be parsed may have declared a hundred thousand objects.
        while ranked.len() > MAX_VERSIONS || bytes > MAX_BYTES {
            let Some(((length, object), _)) = ranked.pop_last() else { break };
            bytes -= length;
            left_out.insert(object);
        }
    }
    let mut kept: LastGood = ranked.into_values().collect();
    kept.sort_by(|one, other| one.object.cmp(&other.object));
    (kept, left_out)
}

/// What an operator should know of those for which there is no room.
pub(super) fn notice(left_out: &BTreeSet<ObjectRef>) -> Option<String> {
    let listed: Vec<String> = left_out.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    let more = if left_out.len() > MAX_LISTED { format!(" and {} more", left_out.len() - MAX_LISTED) } else { String::new() };
    (!left_out.is_empty()).then(|| {
        format!(
            "{}{more}: the last version that could be read serves, but not after a restart: at most {MAX_VERSIONS} of them with {} KiB are kept",
            listed.join(", "),
            MAX_BYTES >> 10
        )
    })
}

/// The words: what is wrong, and which version serves.
pub(super) fn message(refused: &Refused, serving: Option<i64>) -> String {
    match serving {
        _ if refused.outline => format!("{}; no version of it could be read, so it is not served", refused.message),
        Some(generation) => format!("{}; generation {generation} keeps serving", refused.message),
        None => format!("{}; the last version that could be read keeps serving", refused.message),
    }
}

/// `Accepted=False` for the refused generation.
pub(super) fn condition(refused: &Refused, serving: Option<i64>) -> Condition {
    fails(kind::ACCEPTED, reason::UNSUPPORTED_VALUE, message(refused, serving), refused.generation.or(serving))
}

// === impl LastGoodVersion ===

impl LastGoodVersion {
    /// A document that was kept; `None` where it is no object that may be, or cannot be read by this version of Clingfish.
    pub fn parse(document: &str, file: Option<Arc<str>>) -> Option<Self> {
        let value: Value = serde_json::from_str(document).ok()?;
        let Ok(Document::Object(object)) = api::decode(value.clone()) else { return None };
        Some(Self { file, ..Self::of(object.object_ref(), &value)? })
    }

    pub(super) fn of(object: ObjectRef, document: &Value) -> Option<Self> {
        let uid = document.pointer("/metadata/uid").and_then(Value::as_str).map(Into::into);
        (!object.kind.is_read_by_name()).then(|| Self { object, uid, file: None, document: document.to_string().into() })
    }

    /// The object.
    pub(super) fn decode(&self) -> Option<Object> {
        match api::decode(serde_json::from_str(&self.document).ok()?) {
            Ok(Document::Object(object)) if object.object_ref() == self.object => Some(*object),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::Kind;
    use crate::translate::{Change, Resources};

    fn option(name: &str, header: &Value) -> Value {
        json!({"apiVersion": "gateway.solo.io/v1", "kind": "RouteOption", "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}")},
            "spec": {"options": {"lbHash": {"hashPolicies": [{"header": header}]}}}})
    }

    fn change(document: Value) -> Change {
        match api::decode(document) {
            Ok(Document::Object(object)) => Change::apply(object),
            Err(error) => Change::Undecodable(error),
            other => panic!("{other:?}"),
        }
    }

    fn version(name: &str, bytes: usize) -> LastGoodVersion {
        let object = ObjectRef::new(Kind::RouteOption, "n", name);
        LastGoodVersion { object, uid: None, file: None, document: "x".repeat(bytes).into() }
    }

    fn names<'a>(versions: impl IntoIterator<Item = &'a ObjectRef>) -> Vec<&'a str> {
        versions.into_iter().map(|object| &*object.name.name).collect()
    }

    #[test]
    fn count_and_bytes_are_bounded_and_the_smallest_come_first() {
        let large = MAX_BYTES / 2 + 1;
        let (kept, left_out) = choose(vec![version("c", large), version("b", large), version("a", MAX_BYTES), version("d", 10)]);
        assert_eq!(names(kept.iter().map(|version| &version.object)), ["b", "d"]);
        assert_eq!(names(&left_out), ["a", "c"]);
        let many: Vec<_> = (0..MAX_VERSIONS + 5).map(|number| version(&format!("{number:03}"), 1)).collect();
        let (kept, left_out) = choose(many);
        assert_eq!((kept.len(), names(&left_out)), (MAX_VERSIONS, vec!["256", "257", "258", "259", "260"]));
        let notice = notice(&left_out).unwrap();
        assert!(notice.starts_with("RouteOption n/256, RouteOption n/257, RouteOption n/258 and 2 more: "), "{notice}");
        assert_eq!(super::notice(&BTreeSet::new()), None);
    }

    #[test]
    fn only_what_cannot_be_read_now_is_kept_and_it_goes_when_it_can_or_is_gone() {
        let mut resources = Resources::default();
        let kept = |resources: &Resources| resources.last_good_versions().collect::<Vec<_>>();
        resources.apply(change(option("a", &json!("x"))));
        resources.apply(change(option("b", &json!("x"))));
        resources.apply(change(option("never", &json!(5))));
        assert!(kept(&resources).is_empty());
        resources.apply(change(option("a", &json!(5))));
        resources.apply(change(option("b", &json!(5))));
        let versions = kept(&resources);
        assert_eq!(names(versions.iter().map(|version| &version.object)), ["a", "b"]);
        assert_eq!(versions[0].uid.as_deref(), Some("uid-a"));
        assert_eq!(LastGoodVersion::parse(&versions[0].document, None).as_ref(), Some(&versions[0]));
        resources.apply(change(option("a", &json!("y"))));
        resources.apply(Change::Delete(ObjectRef::new(Kind::RouteOption, "n", "b")));
        assert!(kept(&resources).is_empty());
    }

    #[test]
    fn a_kept_version_serves_when_the_newest_one_cannot_be_read_and_else_it_is_nothing() {
        let before = LastGoodVersion::parse(&option("a", &json!("x")).to_string(), None).unwrap();
        let object = before.object.clone();
        let started = |newest: Value| {
            let mut resources = Resources::default();
            resources.restore([before.clone()]);
            resources.apply(change(newest));
            resources
        };
        let unreadable = started(option("a", &json!(5)));
        assert!(unreadable.contains(&object) && unreadable.refused(&object).is_some_and(|refused| !refused.outline));
        assert_eq!(unreadable.last_good_versions().collect::<Vec<_>>(), std::slice::from_ref(&before));
        // Somebody else by the same name.
        let mut other = option("a", &json!(5));
        other["metadata"]["uid"] = json!("another");
        let other = started(other);
        assert!(other.is_outline(&object) && other.last_good_versions().next().is_none());
        let mut readable = started(option("a", &json!("z")));
        assert!(readable.last_good_versions().next().is_none());
        readable.apply(Change::Delete(object.clone()));
        readable.apply(change(option("a", &json!(5))));
        assert!(readable.is_outline(&object), "it is gone for good");
    }

    #[test]
    fn a_version_of_every_kind_comes_back_as_it_was() {
        let spec = |kind: Kind| match kind {
            Kind::Gateway => {
                json!({"gatewayClassName": "c", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP", "hostname": "*.a"}]})
            }
            Kind::GatewayClass => json!({"controllerName": "a.b/c"}),
            Kind::HttpRoute => json!({"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "b", "port": 80}],
                "matches": [{"path": {"type": "PathPrefix", "value": "/a"}}], "timeouts": {"request": "1s"}}]}),
            Kind::GrpcRoute => json!({"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "b", "port": 80}],
                "matches": [{"method": {"type": "Exact", "service": "a.B"}}]}]}),
            Kind::ListenerSet => json!({"parentRef": {"name": "g"}, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}),
            Kind::TcpRoute | Kind::TlsRoute => json!({"parentRefs": [{"name": "g"}], "hostnames": ["a.example"],
                "rules": [{"name": "r", "backendRefs": [{"name": "b", "port": 80, "weight": 2}]}]}),
            Kind::UdpRoute => json!({"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "b", "port": 53}]}]}),
            Kind::ReferenceGrant => {
                json!({"from": [{"group": "gloo.solo.io", "kind": "Upstream", "namespace": "n"}], "to": [{"group": "", "kind": "Service"}]})
            }
            Kind::RouteOption => json!({"targetRefs": [{"group": "g", "kind": "k", "name": "r", "x": 1}], "odd": [1], "options": {
                "lbHash": {"hashPolicies": [{"cookie": {"name": "c", "ttl": "1h0m1.5s", "path": "/"}, "terminal": true}]},
                "timeout": "250ms", "retries": {"numRetries": 2, "retryBackOff": {"baseInterval": "5ms"}}, "extauth": {"a": 1}}}),
            Kind::Upstream => json!({"kube": {"serviceName": "s", "servicePort": 80}, "circuitBreakers": {"maxRequests": 5},
                "loadBalancerConfig": {"ringHash": {"ringHashConfig": {"minimumRingSize": "1024"}}, "healthyPanicThreshold": 5.5}, "failover": {}}),
            Kind::GatewayParameters => json!({"service": {"type": "NodePort", "nodePorts": [{"port": 80, "nodePort": 30_080}]}}),
            Kind::HttpListenerOption | Kind::ListenerOption | Kind::VirtualHostOption => {
                json!({"targetRefs": [{"group": "g", "kind": "Gateway", "name": "gw", "sectionName": "l"}], "options": {"waf": {}}})
            }
            Kind::Service => json!({"ports": [{"port": 80, "targetPort": "http"}], "selector": {"a": "b"}}),
            Kind::AffinityPolicy => {
                json!({"targetRefs": [{"group": "", "kind": "Service", "name": "s", "sectionName": "http"}], "combine": "All",
                "keys": [{"cookie": {"name": "c", "ttl": "1h"}, "terminal": true}, {"sourceIP": {"prefixLength": {"ipv4": 24}}}], "odd": 1})
            }
            Kind::AffinitySlots => json!({"targetRef": {"group": "", "kind": "Service", "name": "s"},
                "slots": [{"number": 3, "holder": {"pod": "a", "since": 5}}, {"number": 4, "vacantSince": 6}], "spares": [{"pod": "b", "since": 7}]}),
            Kind::BackendTlsPolicy => json!({"targetRefs": [{"group": "", "kind": "Service", "name": "s", "sectionName": "https"}],
                "validation": {"hostname": "a.example", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
                    "subjectAltNames": [{"type": "URI", "uri": "spiffe://a/b"}]}, "options": {"a.b/c": "d"}}),
            Kind::BackendTrafficPolicy => json!({"targetRefs": [{"group": "", "kind": "Service", "name": "s"}],
                "sessionPersistence": {"sessionName": "s", "absoluteTimeout": "1h", "cookie": {"path": "/a"}, "odd": 1}, "retryConstraint": {}}),
            Kind::ConfigMap | Kind::EndpointSlice | Kind::Namespace | Kind::Secret => json!({}),
        };
        let mut resources = Resources::default();
        let mut objects = Vec::new();
        for kind in Kind::ALL.iter().copied() {
            let version = kind.facts().versions[0];
            let api_version = if kind.group().is_empty() { version.to_owned() } else { format!("{}/{version}", kind.group()) };
            let namespace = if kind.is_namespaced() { "n" } else { "" };
            resources.apply(change(json!({
                "apiVersion": api_version, "kind": kind.as_str(), "spec": spec(kind), "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
                "metadata": {"name": "a", "namespace": namespace, "uid": "u", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"},
            })));
            objects.push(ObjectRef::new(kind, namespace, "a"));
        }
        let file = Change::Unparsed(crate::translate::Unparsed { file: "f.yaml".into(), objects });
        resources.apply(file.clone());
        let kept: Vec<_> = resources.last_good_versions().collect();
        assert_eq!(kept.len(), Kind::ALL.len() - 2, "all but the Secret and the ConfigMap");
        for version in &kept {
            assert_eq!(LastGoodVersion::parse(&version.document, version.file.clone()).as_ref(), Some(version), "{}", version.object);
        }
        let mut restarted = Resources::default();
        restarted.restore(kept.clone());
        restarted.apply(file);
        assert_eq!(restarted.last_good_versions().collect::<Vec<_>>(), kept);
    }

    #[test]
    fn a_secret_is_never_kept() {
        let secret = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "data": data});
        let mut resources = Resources::default();
        resources.apply(change(secret(json!({"a": "MQ=="}))));
        resources.apply(change(secret(json!({"a": 5}))));
        let object = ObjectRef::new(Kind::Secret, "n", "s");
        assert!(resources.refused(&object).is_some() && resources.contains(&object));
        resources.apply(Change::Unparsed(super::super::Unparsed { file: "f.yaml".into(), objects: vec![object] }));
        assert!(resources.last_good_versions().next().is_none());
        assert_eq!(LastGoodVersion::parse(&secret(json!({})).to_string(), None), None);
    }

    #[test]
    fn an_object_of_a_file_that_cannot_be_parsed_is_kept_with_its_file() {
        let file: Arc<str> = "f.yaml".into();
        let object = ObjectRef::new(Kind::RouteOption, "n", "a");
        let unparsed = |objects: &[&ObjectRef]| {
            Change::Unparsed(super::super::Unparsed { file: Arc::clone(&file), objects: objects.iter().copied().cloned().collect() })
        };
        let mut resources = Resources::default();
        resources.apply(change(option("a", &json!("x"))));
        resources.apply(unparsed(&[&object]));
        let kept: Vec<_> = resources.last_good_versions().collect();
        assert_eq!((kept.len(), kept[0].file.as_deref()), (1, Some("f.yaml")));
        let mut restarted = Resources::default();
        restarted.restore(kept.clone());
        restarted.apply(unparsed(&[&object]));
        assert!(restarted.contains(&object) && restarted.refused(&object).is_none());
        assert_eq!(restarted.last_good_versions().collect::<Vec<_>>(), kept);
        restarted.apply(unparsed(&[]));
        assert!(restarted.last_good_versions().next().is_none() && restarted.contains(&object));
    }
}
