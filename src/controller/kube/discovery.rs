//! Which kinds the API server has, in which version, and whether their status is a subresource.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList},
};
use kube::{Api, Client, core::ApiResource};
use tokio::{sync::Mutex, time::Instant};

use crate::base::{Kind, Origin};

use super::{
    client::{CallError, call, chain},
    gate::{ClusterEvent, First, Gate},
};

/// The CRD whose version stands for the bundle's, and where it says so.
const VERSIONED_CRD: &str = "gatewayclasses.gateway.networking.k8s.io";
const VERSION_ANNOTATION: &str = "gateway.networking.k8s.io/bundle-version";

/// Times between two questions for the version.
const KNOWN_INTERVAL: Duration = Duration::from_secs(60);
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(5);

/// A kind as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Served {
    /// Group, version and plural.
    pub(super) resource: ApiResource,
    /// Its status is a subresource; else it is written with the object.
    pub(super) has_status: bool,
}

/// The resource of a kind in one version.
pub(super) fn resource(kind: Kind, version: &str) -> ApiResource {
    let group = kind.group();
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: kind.as_str().to_owned(),
        plural: kind.facts().plural.to_owned(),
    }
}

/// The API server's answers about its kinds. Those who ask at about the same time share one question.
pub(super) struct Discovery {
    client: Client,
    groups: Mutex<Option<Answer<APIGroupList>>>,
    resources: Mutex<BTreeMap<String, Answer<APIResourceList>>>,
}

/// An answer, or why there is none, and when it was asked for.
#[derive(Clone, Debug)]
struct Answer<T> {
    asked: Instant,
    result: Result<Arc<T>, Arc<CallError>>,
}

// === impl Discovery ===

impl Discovery {
    /// Nothing was asked yet.
    pub(super) fn new(client: Client) -> Self {
        Self { client, groups: Mutex::default(), resources: Mutex::default() }
    }

    /// The kind as the API server has it; `None`: its CRD is missing. An answer that is no older than `oldest` will do.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub(super) async fn find(&self, kind: Kind, oldest: Duration) -> Result<Option<Served>, Arc<CallError>> {
        let versions = kind.facts().versions;
        if kind.facts().origin == Origin::Kubernetes {
            return Ok(versions.first().map(|version| Served { resource: resource(kind, version), has_status: false }));
        }
        let since = Instant::now();
        let groups = self.groups(since, oldest).await?;
        let Some(group) = groups.groups.iter().find(|group| group.name == kind.group()) else { return Ok(None) };
        for version in versions.iter().filter(|version| group.versions.iter().any(|served| served.version == **version)) {
            let list = self.resources(format!("{}/{version}", kind.group()), since, oldest).await?;
            if let Some(served) = find(&list, kind, version) {
                return Ok(Some(served));
            }
        }
        Ok(None)
    }

    async fn groups(&self, since: Instant, oldest: Duration) -> Result<Arc<APIGroupList>, Arc<CallError>> {
        let mut known = self.groups.lock().await;
        if let Some(answer) = known.as_ref().filter(|answer| answer.is_fresh(since, oldest)) {
            return answer.result.clone();
        }
        let answer = Answer::of(self.client.list_api_groups()).await;
        known.insert(answer).result.clone()
    }

    async fn resources(&self, version: String, since: Instant, oldest: Duration) -> Result<Arc<APIResourceList>, Arc<CallError>> {
        let mut known = self.resources.lock().await;
        if let Some(answer) = known.get(&version).filter(|answer| answer.is_fresh(since, oldest)) {
            return answer.result.clone();
        }
        let answer = Answer::of(self.client.list_api_group_resources(&version)).await;
        known.entry(version).insert_entry(answer).get().result.clone()
    }
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

// === impl Answer ===

impl<T> Answer<T> {
    async fn of(question: impl Future<Output = kube::Result<T>>) -> Self {
        let asked = Instant::now();
        Self { asked, result: call(question).await.map(Arc::new).map_err(Arc::new) }
    }

    /// Whether it will do for who began to ask at `since`.
    fn is_fresh(&self, since: Instant, oldest: Duration) -> bool {
        self.asked + oldest >= since
    }
}

/// Asks for the version of the Gateway API's CRDs from time to time, seldom once it is known, since CRDs are not watched. Never ends.
pub(super) async fn follow_version(client: Client, gate: Arc<Gate>) {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let mut told = None;
    let mut refused = false;
    loop {
        let mut pause = UNKNOWN_INTERVAL;
        let version = match call(api.get_metadata_opt(VERSIONED_CRD)).await {
            Ok(crd) => crd.and_then(|crd| crd.metadata.annotations?.remove(VERSION_ANNOTATION)).map(Box::from),
            Err(error) => {
                if error.code() == Some(403) {
                    pause = KNOWN_INTERVAL;
                }
                if !std::mem::replace(&mut refused, true) {
                    tracing::warn!(
                        error = &*chain(&error),
                        "the version of the Gateway API's CRDs cannot be read; SupportedVersion is not reported"
                    );
                }
                told.clone().flatten()
            }
        };
        if told.as_ref() != Some(&version) {
            gate.pass(ClusterEvent::GatewayApiVersion(version.clone()));
            told = Some(version.clone());
        }
        gate.listed(First::GatewayApiVersion);
        tokio::time::sleep(if version.is_some() { KNOWN_INTERVAL } else { pause }).await;
    }
}

fn find(list: &APIResourceList, kind: Kind, version: &str) -> Option<Served> {
    let plural = kind.facts().plural;
    let has = |name: &str| list.resources.iter().any(|resource| resource.name == name);
    has(plural).then(|| Served { resource: resource(kind, version), has_status: has(&format!("{plural}/status")) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_chart_grants_what_is_watched() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/charts/clingfish/templates/clusterrole.yaml")).unwrap();
        let list = |line: Option<&str>, key: &str| -> Vec<String> {
            let line = line.unwrap_or_default().trim().trim_start_matches("- ");
            let items = line.strip_prefix(key).map(|items| items.trim().trim_matches(['[', ']']));
            items.into_iter().flat_map(|items| items.split(", ")).map(|item| item.trim_matches('"').to_owned()).collect()
        };
        let lines: Vec<&str> = text.lines().collect();
        let rules: Vec<_> = lines
            .windows(3)
            .filter(|lines| lines[0].contains("apiGroups:"))
            .map(|lines| (list(Some(lines[0]), "apiGroups:"), list(Some(lines[1]), "resources:"), list(Some(lines[2]), "verbs:")))
            .collect();
        for kind in Kind::ALL.iter().copied() {
            let verbs: Vec<&str> = if kind.is_read_by_name() { vec!["get"] } else { vec!["list", "watch"] };
            let granted = rules.iter().any(|(groups, resources, granted)| {
                groups.iter().any(|group| group == kind.group())
                    && resources.iter().any(|plural| plural == kind.facts().plural)
                    && verbs.iter().all(|verb| granted.iter().any(|one| one == verb))
            });
            assert!(granted, "the ClusterRole of the chart does not grant {verbs:?} of {kind}");
        }
    }

    #[test]
    fn a_status_subresource_is_found_by_its_name() {
        let list = |names: &[&str]| -> APIResourceList {
            let resources: Vec<_> =
                names.iter().map(|name| json!({"name": name, "singularName": "", "namespaced": true, "kind": "X", "verbs": []})).collect();
            serde_json::from_value(json!({"groupVersion": "gloo.solo.io/v1", "resources": resources})).unwrap()
        };
        for (names, expected) in [
            (&["upstreams", "upstreams/status"][..], Some(true)),
            (&["upstreams"], Some(false)),
            (&["upstreamgroups", "upstreamgroups/status"], None),
            (&[], None),
        ] {
            let found = find(&list(names), Kind::Upstream, "v1");
            assert_eq!(found.as_ref().map(|served| served.has_status), expected, "{names:?}");
            assert!(found.is_none_or(|served| served.resource.api_version == "gloo.solo.io/v1"));
        }
        assert_eq!(resource(Kind::Service, "v1").api_version, "v1");
    }
}
