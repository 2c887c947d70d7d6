//! AffinityPolicies: for which routes, rules and backends they count, and what they ask for.

mod fields;
mod outcome;
mod settings;
#[cfg(test)]
mod tests;
mod warm_up;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::api::{AffinityPolicy, creation_timestamp, object_name};
use crate::base::{Kind, ObjectName, ObjectRef, text::word};
use crate::snapshot::{BackendName, HashSource, Split};

use super::{
    PolicyStatus, Resources,
    backend::endpoints::service_port,
    condition::{self, Refusal, kind, reason},
    last_good,
    patterns::{Allowance, Patterns},
    policy::{self, Attachments, Precedence, Target},
};

pub(super) use outcome::{Outcome, ReplicasOf};
pub(super) use settings::{AffinitySettings, Identity, TableSettings};
pub(super) use warm_up::WarmUp;

/// Kinds that a policy may be for.
pub(super) const TARGETS: [Kind; 7] =
    [Kind::Service, Kind::Upstream, Kind::HttpRoute, Kind::GrpcRoute, Kind::TlsRoute, Kind::TcpRoute, Kind::UdpRoute];

/// Annotation of a policy: for each new value the slots of its targets are numbered densely, once.
const RENUMBER: &str = "clingfish.dev/renumber-slots";

/// All AffinityPolicies.
#[derive(Clone, Debug, Default)]
pub(super) struct AffinityPolicies {
    compiled: BTreeMap<ObjectName, CompiledAffinity>,
    attachments: Attachments,
}

/// An AffinityPolicy, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CompiledAffinity {
    generation: Option<i64>,
    precedence: Precedence,
    targets: Vec<Target>,
    /// What it asks for, or why its targets are answered 500.
    settings: Result<Arc<AffinitySettings>, Refusal>,
    /// Targets that it cannot be for.
    ignored: Vec<String>,
}

/// The policy that counts for something, and what it asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counting<'a> {
    /// The policy.
    pub(super) name: &'a ObjectName,
    /// Its settings, or why there are none.
    pub(super) settings: Result<&'a Arc<AffinitySettings>, &'a Refusal>,
}

// === impl AffinityPolicies ===

impl AffinityPolicies {
    /// All policies, compiled for once: `explain` and `simulate` ask for backends that no route uses.
    pub(super) fn of_resources(resources: &Resources) -> Self {
        let mut policies = Self::default();
        let patterns = Patterns::default();
        for name in resources.affinity_policies().keys() {
            policies.compile(name, resources, &patterns.allowance(u64::MAX));
        }
        policies.settle(&Self::default());
        policies
    }

    /// Compiles one policy anew, or forgets it. Nothing is decided until [`settle`](Self::settle).
    pub(super) fn compile(&mut self, name: &ObjectName, resources: &Resources, allowance: &Allowance<'_>) {
        match resources.affinity_policy(name) {
            Some(policy) => {
                let previous = self.compiled.get(name).and_then(|previous| previous.settings.as_ref().ok());
                let compiled = compile(policy, resources, allowance, previous);
                self.compiled.insert(name.clone(), compiled);
            }
            None => drop(self.compiled.remove(name)),
        }
    }

    /// Decides which policies count; `before`: the policies as they were. Returns the objects for which something else counts than before.
    pub(super) fn settle(&mut self, before: &Self) -> BTreeSet<ObjectRef> {
        self.attachments = Attachments::settle(self.compiled.values().map(|policy| (&policy.precedence, policy.targets.as_slice())));
        let objects: BTreeSet<&ObjectRef> = before.attachments.objects().chain(self.attachments.objects()).collect();
        let differs = |object: &&ObjectRef| !before.winners(object).eq(self.winners(object));
        objects.into_iter().filter(differs).cloned().collect()
    }

    fn winners<'a>(&'a self, object: &ObjectRef) -> impl Iterator<Item = (&'a Target, Option<&'a Result<Arc<AffinitySettings>, Refusal>>)> {
        self.attachments.winners_of(object).map(|(target, name)| (target, self.compiled.get(name).map(|policy| &policy.settings)))
    }

    /// The policy that counts for an object, or a section of it.
    pub(super) fn of(&self, object: &ObjectRef, section: Option<&str>) -> Option<Counting<'_>> {
        self.get(self.attachments.of(object, section)?)
    }

    /// A policy by its name, as a cluster names the one that it is for.
    pub(super) fn get(&self, name: &ObjectName) -> Option<Counting<'_>> {
        let (name, compiled) = self.compiled.get_key_value(name)?;
        Some(Counting { name, settings: compiled.settings.as_ref() })
    }

    /// What the policy asks for that counts for a cluster, or why nothing is sent to it; `None`: no policy is for it.
    pub(super) fn of_backend(&self, backend: &BackendName, resources: &Resources) -> Option<Result<Arc<AffinitySettings>, String>> {
        let counting = self.counting_for(backend, resources)?;
        Some(match counting.settings {
            Ok(settings) => Ok(Arc::clone(settings)),
            Err(refusal) => Err(format!("AffinityPolicy {}: {}", counting.name, refusal.message)),
        })
    }

    /// The policy that counts for a cluster.
    pub(super) fn counting_for(&self, backend: &BackendName, resources: &Resources) -> Option<Counting<'_>> {
        match &backend.policy {
            Some(policy) => self.get(policy),
            None => {
                let service = resources.service(&backend.name).filter(|_| backend.kind == Kind::Service);
                let port = service.zip(backend.port).and_then(|(service, port)| service_port(service, port));
                let target = ObjectRef { kind: backend.kind, name: backend.name.clone() };
                self.of(&target, port.and_then(|port| port.name.as_deref()))
            }
        }
    }

    /// The policies that are for an object or a section of it, whether they count or not.
    pub(super) fn naming(&self, object: &ObjectRef) -> impl Iterator<Item = &ObjectName> {
        self.attachments.naming(object)
    }

    /// All policies.
    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.compiled.keys()
    }

    /// The objects that a policy is for.
    pub(super) fn objects_of(&self, policy: &ObjectName) -> BTreeSet<&ObjectRef> {
        self.compiled.get(policy).into_iter().flat_map(|policy| &policy.targets).map(|target| &target.object).collect()
    }

    /// The status of a policy; `gateways`: through which requests come to its targets; `outcome`: what became of it.
    pub(super) fn status(
        &self,
        name: &ObjectName,
        gateways: BTreeSet<ObjectName>,
        outcome: &Outcome,
        resources: &Resources,
        controller_name: &str,
    ) -> Option<PolicyStatus> {
        let compiled = self.compiled.get(name)?;
        let generation = compiled.generation;
        let refused = compiled.settings.as_ref().err().cloned();
        let refused = refused.or_else(|| self.attachments.conflict(name)).or_else(|| missing_target(compiled, resources));
        let accepted = match resources.refused(&ObjectRef { kind: Kind::AffinityPolicy, name: name.clone() }) {
            Some(refused) => last_good::condition(refused, generation),
            None => {
                let ignored: String = compiled.ignored.iter().map(|ignored| format!("; ignored: {ignored}")).collect();
                let words = format!("the policy counts{ignored}");
                condition::from_refusal(kind::ACCEPTED, refused.as_ref(), (reason::ACCEPTED, &words), generation)
            }
        };
        let overridden = if refused.is_none() { self.overridden(compiled) } else { None };
        let overridden = overridden.map(|words| condition::holds(kind::OVERRIDDEN, reason::OVERRIDDEN, words, generation));
        let outcome = if refused.is_none() { outcome.conditions(generation) } else { Vec::new() };
        let conditions: Vec<_> = std::iter::once(accepted).chain(overridden).chain(outcome).collect();
        Some(policy::status(gateways, controller_name, &conditions))
    }

    /// Sections of its targets for which another policy counts, in words.
    fn overridden(&self, policy: &CompiledAffinity) -> Option<String> {
        let whole = policy.targets.iter().filter(|target| target.section.is_none());
        let others = whole
            .flat_map(|target| self.attachments.winners_of(&target.object))
            .filter(|(target, winner)| target.section.is_some() && **winner != policy.precedence.name);
        let words: Vec<_> = others
            .map(|(target, winner)| {
                format!("{} section {} has policy {winner}", target.object, target.section.as_deref().unwrap_or_default())
            })
            .collect();
        (!words.is_empty()).then(|| crate::base::text::several(&words))
    }
}

fn compile(
    policy: &AffinityPolicy,
    resources: &Resources,
    allowance: &Allowance<'_>,
    previous: Option<&Arc<AffinitySettings>>,
) -> CompiledAffinity {
    let name = object_name(&policy.metadata);
    let mut ignored = Vec::new();
    let targets = targets(policy, &name, &mut ignored);
    let reference = ObjectRef { kind: Kind::AffinityPolicy, name: name.clone() };
    let unreadable = resources.refused(&reference).filter(|refused| refused.outline);
    let settings = match unreadable {
        Some(refused) => Err(Refusal::new(reason::INVALID, &*refused.message)),
        None => settings::read(&policy.spec, &name, allowance)
            .map(|settings| AffinitySettings { renumber: renumber(policy), ..settings })
            .map_err(|wrong| Refusal::new(reason::INVALID, wrong)),
    };
    let splits = settings.as_ref().is_ok_and(|settings| settings.affinity.split != Split::Random);
    if let Some(backend) = targets.iter().find(|target| splits && !target.object.kind.is_route()) {
        ignored.push(format!("spec.split for {}, which is a backend: it counts for routes", backend.object));
    }
    if let Some(stream) = targets.iter().find(|target| target.object.kind.is_stream_route()) {
        let keys = settings.iter().flat_map(|settings| settings.affinity.keys.iter().flatten()).enumerate();
        let unread = keys.filter(|(_, key)| !matches!(key.source, HashSource::SourceIp | HashSource::SourcePrefix { .. }));
        ignored.extend(unread.map(|(index, _)| format!("spec.keys[{index}] for {}, which has addresses only", stream.object)));
        if settings.as_ref().is_ok_and(|settings| settings.affinity.hold.is_some()) {
            ignored.push(format!("spec.hold for {}, whose clients carry nothing", stream.object));
        }
    }
    let kept = |settings: AffinitySettings| match previous {
        Some(before) if **before == settings => Arc::clone(before),
        Some(_) | None => Arc::new(settings),
    };
    CompiledAffinity {
        generation: policy.metadata.generation,
        precedence: Precedence { age: creation_timestamp(&policy.metadata), name },
        targets,
        settings: settings.map(kept),
        ignored,
    }
}

/// What somebody asks the slots to be numbered anew by.
fn renumber(policy: &AffinityPolicy) -> Option<Box<str>> {
    policy.metadata.annotations.as_ref()?.get(RENUMBER).map(|value| word(value).to_string().into())
}

/// What the policy is for, all of its own namespace.
fn targets(policy: &AffinityPolicy, name: &ObjectName, ignored: &mut Vec<String>) -> Vec<Target> {
    let mut targets = Vec::new();
    for (index, written) in policy.spec.target_refs.iter().flatten().enumerate() {
        let Some(kind) = Kind::from_group_kind(&written.group, &written.kind).filter(|kind| TARGETS.contains(kind)) else {
            let group = if written.group.is_empty() { String::new() } else { format!("{}/", word(&written.group)) };
            let expected = "expected a Service, an Upstream or a route";
            ignored.push(format!("spec.targetRefs[{index}]: kind {group}{} is not supported; {expected}", word(&written.kind)));
            continue;
        };
        let object = ObjectRef::new(kind, name.namespace.clone(), written.name.as_str());
        let section = written.section_name.as_deref().filter(|section| !section.is_empty()).map(Into::into);
        targets.push(Target { object, section });
    }
    targets
}

/// A target that there is not, or a section that it does not have.
fn missing_target(policy: &CompiledAffinity, resources: &Resources) -> Option<Refusal> {
    if policy.targets.is_empty() {
        return Some(Refusal::new(reason::TARGET_NOT_FOUND, "spec.targetRefs: expected at least one target that is supported"));
    }
    policy.targets.iter().find_map(|target| {
        if !resources.contains(&target.object) {
            return Some(Refusal::new(reason::TARGET_NOT_FOUND, format!("spec.targetRefs: there is no {}", target.object)));
        }
        let section = target.section.as_deref()?;
        let message = format!("spec.targetRefs: {} has no section {}", target.object, word(section));
        (!resources.has_section(&target.object, section)).then(|| Refusal::new(reason::TARGET_NOT_FOUND, message))
    })
}
