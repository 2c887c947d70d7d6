//! Upstreams and RouteOptions as the memo keeps them: compiled once, with what the routes make of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

use crate::api::RouteOption;
use crate::base::{Kind, ObjectName, ObjectRef};
use crate::lb::{Policy, SlotMap};
use crate::snapshot::{BackendName, Observed, RouteName, UpstreamProtocol};
use crate::translate::{
    CrossNamespace, Options, Resources,
    backend::{
        endpoints::{EndpointRules, StraySlice},
        upstream::{self, BackendView, CompiledUpstream},
    },
    patterns::Allowance,
    policy::{self, Presence},
    reference_grant::CrossReference,
    route::option_use::{OptionUse, UnkeyedRules},
    slots::object,
};

use super::{
    route_option::{CompiledRouteOption, OptionValue, targets},
    status::{RouteOptionFacts, UpstreamFacts},
};

/// What Upstreams and clusters are compiled from.
#[derive(Clone, Copy)]
pub(in crate::translate) struct View<'a> {
    pub(in crate::translate) resources: &'a Resources,
    pub(in crate::translate) observed: &'a Observed,
    pub(in crate::translate) options: &'a Options,
}

/// The compiled Upstreams and RouteOptions.
#[derive(Debug, Default)]
pub(in crate::translate) struct GlooKinds {
    upstreams: BTreeMap<ObjectName, CompiledUpstream>,
    upstreams_by_service: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    /// Upstreams with DNS names.
    named_hosts: BTreeSet<ObjectName>,
    unkeyed: BTreeMap<ObjectName, BTreeSet<Place>>,
    options: BTreeMap<ObjectName, CompiledRouteOption>,
    tallies: BTreeMap<ObjectName, OptionTally>,
}

/// What the routes make of a RouteOption, added up.
#[derive(Debug, Default)]
struct OptionTally {
    attached: usize,
    used: usize,
    earlier: BTreeMap<ObjectName, usize>,
    hash_without_table: BTreeSet<Place>,
    hash_in_split: BTreeSet<Place>,
    hash_without_backend: BTreeSet<Place>,
}

/// A rule of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    route: Arc<RouteName>,
    rule: u16,
}

/// Name under which a RouteOption that could not be read is merged: no option has it.
const UNREADABLE: &str = "(unreadable)";

/// What routes depend on of an Upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UpstreamSummary {
    exists: bool,
    hashes: bool,
}

fn places<'a>(route: &'a Arc<RouteName>, rules: &'a [u16]) -> impl Iterator<Item = Place> + 'a {
    rules.iter().map(|rule| Place { route: Arc::clone(route), rule: *rule })
}

/// No more than a status lists: of thousands of places the first are enough.
fn in_words<'a>(places: impl IntoIterator<Item = &'a Place>) -> Vec<String> {
    places.into_iter().take(super::status::MAX_LISTED + 1).map(|place| format!("{} rule {}", place.route, place.rule)).collect()
}

// === impl View ===

impl View<'_> {
    /// Which addresses may be sent to.
    pub(in crate::translate) fn endpoint_rules(&self) -> EndpointRules {
        EndpointRules::new(self.observed, self.options)
    }
}

impl BackendView for View<'_> {
    fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.resources.service(name).map(|service| &**service)
    }

    fn slices(&self, service: &ObjectName) -> Vec<&EndpointSlice> {
        self.resources.slices_of(service).map(|slice| &**slice).collect()
    }

    fn may_reference(&self, namespace: &str, service: &ObjectName) -> bool {
        let reference = CrossReference {
            from: Kind::Upstream,
            from_namespace: namespace,
            to: Kind::Service,
            to_namespace: &service.namespace,
            to_name: &service.name,
        };
        match &self.options.cross_namespace {
            CrossNamespace::Any => true,
            CrossNamespace::ReleaseNamespace(release) if **release == *namespace => true,
            CrossNamespace::ReleaseNamespace(_) | CrossNamespace::Grant => reference.is_permitted(self.resources),
        }
    }

    fn dns(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        self.observed.dns.get(name).cloned()
    }

    fn stray_slice(&self, service: &ObjectName) -> Option<StraySlice> {
        self.resources.stray_slice(service, self.options.tells_of_other_namespaces())
    }

    fn slots(&self, target: &ObjectRef) -> Option<(SlotMap, Option<&SlotMap>)> {
        let name = object::name_of(target);
        let stored = &self.resources.affinity_slots(&name)?.spec;
        let map = (object::target_of(&name, stored).as_ref() == Some(target)).then(|| object::read(stored))?;
        Some((map, self.observed.advanced_slots.get(target)))
    }

    fn second(&self) -> Option<u64> {
        self.observed.second
    }
}

// === impl GlooKinds: Upstreams ===

impl GlooKinds {
    /// Compiles an Upstream anew, or forgets it. Returns whether routes see a difference.
    pub(in crate::translate) fn update_upstream(&mut self, name: &ObjectName, view: &View<'_>) -> bool {
        let before = self.summary(name);
        if let Some(old) = self.upstreams.remove(name)
            && let Some(service) = old.service
            && let Some(upstreams) = self.upstreams_by_service.get_mut(&service)
        {
            upstreams.remove(name);
            if upstreams.is_empty() {
                self.upstreams_by_service.remove(&service);
            }
        }
        self.named_hosts.remove(name);
        if let Some(object) = view.resources.upstream(name) {
            let compiled = upstream::compile(object, view, view.endpoint_rules());
            if let Some(service) = &compiled.service {
                self.upstreams_by_service.entry(service.clone()).or_default().insert(name.clone());
            }
            if !compiled.dns_names.is_empty() {
                self.named_hosts.insert(name.clone());
            }
            self.upstreams.insert(name.clone(), compiled);
        }
        self.summary(name) != before
    }

    fn summary(&self, name: &ObjectName) -> UpstreamSummary {
        let upstream = self.upstreams.get(name);
        UpstreamSummary { exists: upstream.is_some(), hashes: upstream.is_some_and(CompiledUpstream::uses_hash) }
    }

    /// A compiled Upstream.
    pub(in crate::translate) fn upstream(&self, name: &ObjectName) -> Option<&CompiledUpstream> {
        self.upstreams.get(name)
    }

    /// The Upstreams that name this Service, there or not.
    pub(in crate::translate) fn upstreams_of(&self, service: &ObjectName) -> Vec<ObjectName> {
        self.upstreams_by_service.get(service).into_iter().flatten().cloned().collect()
    }

    /// The Upstreams that name a Service of this namespace.
    pub(in crate::translate) fn upstreams_into(&self, namespace: &str) -> Vec<ObjectName> {
        let services = self.upstreams_by_service.range(ObjectName::new(namespace, "")..);
        services.take_while(|(service, _)| *service.namespace == *namespace).flat_map(|(_, upstreams)| upstreams.iter().cloned()).collect()
    }

    /// The Upstreams with hosts that are DNS names.
    pub(in crate::translate) fn with_named_hosts(&self) -> Vec<ObjectName> {
        self.named_hosts.iter().cloned().collect()
    }

    /// The DNS names of all Upstreams.
    pub(in crate::translate) fn dns_names(&self) -> BTreeSet<Box<str>> {
        self.named_hosts
            .iter()
            .filter_map(|name| self.upstreams.get(name))
            .flat_map(|upstream| upstream.dns_names.iter().cloned())
            .collect()
    }

    /// Whether a backend chooses its hosts by hash.
    pub(in crate::translate) fn hashes(&self, backend: &BackendName, resources: &Resources) -> bool {
        match backend.kind {
            Kind::Upstream => self.upstreams.get(&backend.name).is_some_and(CompiledUpstream::uses_hash),
            _ => resources.service(&backend.name).is_some_and(|service| {
                matches!(
                    upstream::service_settings(service, UpstreamProtocol::default()).0.balancer.policy,
                    Policy::RingHash(_) | Policy::Maglev(_)
                )
            }),
        }
    }

    /// What the routes make of an Upstream.
    pub(in crate::translate) fn upstream_facts(&self, name: &ObjectName) -> UpstreamFacts {
        UpstreamFacts { rules_without_key: in_words(self.unkeyed.get(name).into_iter().flatten()), ..UpstreamFacts::default() }
    }

    /// Takes in that rules send to an Upstream without a key.
    pub(in crate::translate) fn add_unkeyed(&mut self, route: &Arc<RouteName>, one: &UnkeyedRules) {
        self.unkeyed.entry(one.upstream.clone()).or_default().extend(places(route, &one.rules));
    }

    /// Takes back what `add_unkeyed` took in.
    pub(in crate::translate) fn remove_unkeyed(&mut self, route: &Arc<RouteName>, one: &UnkeyedRules) {
        if let Some(known) = self.unkeyed.get_mut(&one.upstream) {
            for place in places(route, &one.rules) {
                known.remove(&place);
            }
            if known.is_empty() {
                self.unkeyed.remove(&one.upstream);
            }
        }
    }
}

// === impl GlooKinds: RouteOptions ===

impl GlooKinds {
    /// Compiles a RouteOption anew, or forgets it; `allowance` is for its regular expression.
    pub(in crate::translate) fn update_option(&mut self, name: &ObjectName, resources: &Resources, allowance: &Allowance<'_>) {
        let Some(option) = resources.route_option(name) else { return drop(self.options.remove(name)) };
        let mut compiled = super::route_option::compile(option, allowance);
        let reference = ObjectRef { kind: Kind::RouteOption, name: name.clone() };
        if let Some(refused) = resources.refused(&reference).filter(|refused| refused.outline) {
            // Without what could not be read its rules would go without affinity, or without a guard, and nobody would notice.
            compiled.options.retain(|_, value| matches!(**value, OptionValue::Refused(_)));
            let why = format!("no version of it could be read: {}", refused.message);
            compiled.options.insert(UNREADABLE.into(), Box::new(OptionValue::Refused(why.into())));
        }
        self.options.insert(name.clone(), compiled);
    }

    /// A compiled RouteOption.
    pub(in crate::translate) fn option(&self, name: &ObjectName) -> Option<&CompiledRouteOption> {
        self.options.get(name)
    }

    /// Takes in what rules make of a RouteOption.
    pub(in crate::translate) fn add_use(&mut self, route: &Arc<RouteName>, one: &OptionUse) {
        let tally = self.tallies.entry(one.option.clone()).or_default();
        tally.attached += one.rules.len();
        tally.used += if one.used { one.rules.len() } else { 0 };
        for earlier in one.earlier.iter().filter(|_| !one.used) {
            *tally.earlier.entry(earlier.clone()).or_default() += one.rules.len();
        }
        for (set, holds) in tally.places(one) {
            if holds {
                set.extend(places(route, &one.rules));
            }
        }
    }

    /// Takes back what `add_use` took in.
    pub(in crate::translate) fn remove_use(&mut self, route: &Arc<RouteName>, one: &OptionUse) {
        let Some(tally) = self.tallies.get_mut(&one.option) else { return };
        tally.attached = tally.attached.saturating_sub(one.rules.len());
        tally.used = tally.used.saturating_sub(if one.used { one.rules.len() } else { 0 });
        for earlier in one.earlier.iter().filter(|_| !one.used) {
            if let Some(count) = tally.earlier.get_mut(earlier) {
                *count = count.saturating_sub(one.rules.len());
                if *count == 0 {
                    tally.earlier.remove(earlier);
                }
            }
        }
        for (set, holds) in tally.places(one) {
            if holds {
                for place in places(route, &one.rules) {
                    set.remove(&place);
                }
            }
        }
        if tally.attached == 0 {
            self.tallies.remove(&one.option);
        }
    }

    /// What the routes make of a RouteOption.
    pub(in crate::translate) fn option_facts(&self, option: &RouteOption, name: &ObjectName, resources: &Resources) -> RouteOptionFacts {
        let mut facts = RouteOptionFacts::default();
        for target in targets::targets(option) {
            match policy::presence(&target, resources) {
                Presence::There => facts.attached = true,
                Presence::NoSection => facts.missing_rules.extend(target.section.map(|rule| (target.object, rule))),
                Presence::NoObject => facts.missing_routes.push(target.object),
            }
        }
        if let Some(tally) = self.tallies.get(name) {
            facts.attached = true;
            facts.used = tally.used > 0;
            facts.shadowed_by = tally.earlier.keys().take(super::status::MAX_LISTED + 1).cloned().collect();
            facts.hash_without_table = in_words(&tally.hash_without_table);
            facts.hash_in_split = in_words(&tally.hash_in_split);
            facts.hash_without_backend = in_words(&tally.hash_without_backend);
        }
        facts
    }
}

// === impl OptionTally ===

impl OptionTally {
    fn places(&mut self, one: &OptionUse) -> [(&mut BTreeSet<Place>, bool); 3] {
        [
            (&mut self.hash_without_table, one.hash_without_table),
            (&mut self.hash_in_split, one.hash_in_split),
            (&mut self.hash_without_backend, one.hash_without_backend),
        ]
    }
}
