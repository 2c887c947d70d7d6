//! BackendTLSPolicies: to which ports of Services TLS is spoken, and in which way.

mod compile;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::ServicePort;

use crate::base::{Kind, ObjectName, ObjectRef, text::word};
use crate::snapshot::UpstreamTls;
use crate::translate::{
    Options, PolicyStatus, Resources,
    certificates::Certificates,
    cluster::PortTls,
    condition::{self, Refusal, kind, reason},
    last_good,
    policy::{self, Attachments, Presence, Target},
};

use compile::CompiledPolicy;

/// All BackendTLSPolicies.
#[derive(Debug, Default)]
pub(in crate::translate) struct BackendTlsPolicies {
    compiled: BTreeMap<ObjectName, CompiledPolicy>,
    attachments: Attachments,
    certificates: Certificates,
}

/// What counts for a target, and by which policy: what is answered for it names the policy.
type Settings<'a> = (&'a Target, &'a ObjectName, Option<&'a Result<Arc<UpstreamTls>, Refusal>>);

// === impl BackendTlsPolicies ===

impl BackendTlsPolicies {
    /// The Secrets and ConfigMaps that policies refer to.
    pub(in crate::translate) fn wanted(&self) -> &BTreeSet<ObjectRef> {
        self.certificates.wanted()
    }

    /// Compiles all policies anew. Returns the Services for which something else counts than before.
    pub(in crate::translate) fn update(&mut self, resources: &Resources, options: &Options) -> BTreeSet<ObjectName> {
        self.certificates.begin();
        let policies = resources.backend_tls_policies().iter();
        let compiled: BTreeMap<_, _> = policies
            .map(|(name, policy)| {
                let previous = self.compiled.get(name);
                (name.clone(), compile::compile(policy, resources, options, &mut self.certificates, previous))
            })
            .collect();
        self.certificates.end();
        let attachments = Attachments::settle(compiled.values().map(|policy| (&policy.precedence, policy.targets.as_slice())));
        let certificates = std::mem::take(&mut self.certificates);
        let before = std::mem::replace(self, Self { compiled, attachments, certificates });
        let services: BTreeSet<&ObjectRef> = before.attachments.objects().chain(self.attachments.objects()).collect();
        let changed = services.into_iter().filter(|service| !before.settings_of(service).eq(self.settings_of(service)));
        changed.map(|service| service.name.clone()).collect()
    }

    fn settings_of<'a>(&'a self, service: &ObjectRef) -> impl Iterator<Item = Settings<'a>> {
        let winners = self.attachments.winners_of(service);
        winners.map(|(target, policy)| (target, policy, self.compiled.get(policy).map(|policy| &policy.tls)))
    }

    /// How TLS is spoken to a port of a Service; `None`: no policy is for it.
    pub(in crate::translate) fn of_port(&self, service: &ObjectName, port: &ServicePort) -> Option<PortTls> {
        let object = ObjectRef { kind: Kind::Service, name: service.clone() };
        let name = self.attachments.of(&object, port.name.as_deref())?;
        let tls = self.compiled.get(name).map(|policy| policy.tls.as_ref());
        Some(match tls {
            Some(Ok(tls)) => Ok(Arc::clone(tls)),
            Some(Err(refusal)) => Err(format!("BackendTLSPolicy {name}: {}", refusal.message)),
            None => Err(format!("BackendTLSPolicy {name} is gone")),
        })
    }

    /// Which of them are for what.
    pub(in crate::translate) fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    /// The policies that are for a Service, whether they count or not.
    pub(in crate::translate) fn naming(&self, service: &ObjectName) -> Vec<ObjectName> {
        self.attachments.naming(&ObjectRef { kind: Kind::Service, name: service.clone() }).cloned().collect()
    }

    /// All policies.
    pub(in crate::translate) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.compiled.keys()
    }

    /// The Services that a policy is for.
    pub(in crate::translate) fn targets_of(&self, policy: &ObjectName) -> impl Iterator<Item = &ObjectRef> {
        self.compiled.get(policy).into_iter().flat_map(|policy| &policy.targets).map(|target| &target.object)
    }

    /// The status of a policy; `gateways`: through which requests come to its targets.
    pub(in crate::translate) fn status(
        &self,
        name: &ObjectName,
        gateways: BTreeSet<ObjectName>,
        resources: &Resources,
        options: &Options,
    ) -> Option<PolicyStatus> {
        let compiled = self.compiled.get(name)?;
        let generation = compiled.generation;
        let conflict = self.attachments.conflict(name);
        let refused = compiled.tls.as_ref().err().cloned().or(conflict).or_else(|| missing_section(compiled, resources));
        let ignored: String = compiled.ignored.iter().map(|ignored| format!("; ignored: {ignored}")).collect();
        let accepted = match resources.refused(&ObjectRef { kind: Kind::BackendTlsPolicy, name: name.clone() }) {
            Some(refused) => last_good::condition(refused, generation),
            None => {
                let words = format!("hosts are spoken to in TLS{ignored}");
                condition::from_refusal(kind::ACCEPTED, refused.as_ref(), (reason::ACCEPTED, &words), generation)
            }
        };
        let words = (reason::RESOLVED_REFS, "all references are resolved");
        let resolved = condition::from_refusal(kind::RESOLVED_REFS, compiled.unresolved.as_ref(), words, generation);
        Some(policy::status(gateways, &options.controller_name, &[accepted, resolved]))
    }
}

/// A port that a policy is for and that its Service does not have.
fn missing_section(policy: &CompiledPolicy, resources: &Resources) -> Option<Refusal> {
    let missing = policy.targets.iter().find(|target| policy::presence(target, resources) == Presence::NoSection)?;
    let section = word(missing.section.as_deref().unwrap_or_default());
    let message = format!("spec.targetRefs: {} has no port by the name of {section}", missing.object);
    Some(Refusal::new(reason::TARGET_NOT_FOUND, message))
}
