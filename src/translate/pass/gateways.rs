//! GatewayClasses and Gateways of a pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::base::{Kind, ObjectName, text::word};
use crate::translate::{
    Status,
    gateway::{
        compile,
        compiled::CompiledGateway,
        gateway_class, listener_set,
        state::{GatewayState, Relisting},
        tls,
    },
    gloo::gateway_option,
    notices::Topic,
};

use super::{Pass, memo::Memo, object};

impl Pass<'_> {
    pub(super) fn classes(&mut self) {
        let observed = self.view.observed;
        let mut touched: BTreeSet<_> = self.touched(Kind::GatewayClass).into_iter().collect();
        if self.memo.observed.gateway_api_version != observed.gateway_api_version {
            touched.extend(self.view.resources.gateway_classes().keys().cloned());
        }
        for name in touched {
            let class = self.view.resources.gateway_classes().get(&name).filter(|class| gateway_class::is_ours(class, self.view.options));
            let status = class
                .map(|class| Status::GatewayClass(gateway_class::status(class, &name, self.view.resources, observed, self.view.options)));
            let notices = class.map(|class| gateway_class::notices(class, &name, self.view.options)).unwrap_or_default();
            self.set_status(object(Kind::GatewayClass, &name), status);
            self.out.notices.set(Topic::Object(object(Kind::GatewayClass, &name)), notices);
        }
    }

    pub(super) fn gateway_options(&mut self) {
        for kind in Kind::GATEWAY_OPTIONS {
            for name in self.touched(kind) {
                gateway_option::update(&mut self.memo.gateway_options, &object(kind, &name), self.view.resources);
                self.out.notices.set(Topic::Object(object(kind, &name)), Vec::new());
            }
        }
    }

    /// What is said of options depends on the Gateways that they are for.
    fn option_notices(&mut self) {
        for (object, option) in &self.memo.gateway_options {
            let notices = gateway_option::notices(object, option, self.view.resources, self.view.options);
            self.out.notices.set(Topic::Object(object.clone()), notices);
        }
    }

    pub(super) fn gateways(&mut self) {
        let (before, now) = (&self.memo.observed, self.view.observed);
        let hour_changed = before.hour != now.hour;
        let ports_changed = before.ports != now.ports || before.services != now.services;
        self.dirty.infrastructure |= before.refused_services != now.refused_services || before.node_addresses != now.node_addresses;
        self.dirty.infrastructure |= before.bound != now.bound || ports_changed;
        if self.dirty.infrastructure {
            self.dirty.gateways.extend(self.memo.gateways.keys().cloned());
        }
        let touched = self.touched(Kind::Gateway);
        let classes_changed = self.changes.of(Kind::GatewayClass).next().is_some();
        self.dirty.infrastructure |= classes_changed;
        let parameters_changed = self.changes.of(Kind::GatewayParameters).next().is_some();
        let touched_sets = self.touched(Kind::ListenerSet);
        let sets_changed = self.listener_sets_changed(&touched_sets);
        let others_changed = classes_changed
            || parameters_changed
            || sets_changed
            || Kind::GATEWAY_OPTIONS.into_iter().any(|kind| self.changes.of(kind).next().is_some());
        if !self.first && touched.is_empty() && !ports_changed && !others_changed && !self.certificates_changed() {
            if hour_changed {
                self.expiry_notices();
            }
            return;
        }
        let Memo { gateway_options, certificates, .. } = &mut *self.memo;
        let compiled = compile::compile_all(self.view.resources, now, self.view.options, gateway_options, certificates);
        self.report_sets(touched_sets, &compiled);
        self.gateway_notices(&touched, &compiled);
        self.option_notices();
        for name in touched {
            self.dirty.gateways.insert(name.clone());
            if !compiled.contains_key(&name) {
                // Routes say in a notice whether there is such a Gateway at all.
                self.dirty_dependents_of(Kind::Gateway, &name);
            }
        }
        let gone: Vec<_> = self.memo.gateways.keys().filter(|name| !compiled.contains_key(*name)).cloned().collect();
        for name in gone {
            self.forget_hostnames(&name);
            let state = self.memo.gateways.remove(&name);
            for set in state.iter().flat_map(|state| &state.compiled.sets) {
                self.set_status(object(Kind::ListenerSet, &set.name), None);
            }
            self.out.notices.set(Topic::Expiry(name.clone()), Vec::new());
            self.dirty.sockets = true;
            self.dirty.infrastructure = true;
            self.dirty.gateways.insert(name.clone());
            self.dirty_dependents_of(Kind::Gateway, &name);
        }
        for (name, compiled) in compiled {
            self.update_gateway(name, compiled);
        }
        self.expiry_notices();
    }

    /// Whether ListenerSets were touched, or the namespaces by whose labels a Gateway takes them. Routes that name one of them are dirty.
    fn listener_sets_changed(&mut self, touched: &[ObjectName]) -> bool {
        for name in touched {
            self.dirty_dependents_of(Kind::ListenerSet, name);
        }
        let selects = || self.memo.gateways.values().any(|state| state.compiled.reads_labels_of_sets);
        !touched.is_empty() || (self.changes.of(Kind::Namespace).next().is_some() && selects())
    }

    /// What is said of a ListenerSet depends on its newest version, even where that adds no listener. Nothing is said of those that no Gateway
    /// of ours has any more.
    fn report_sets(&mut self, touched: Vec<ObjectName>, ours: &BTreeMap<ObjectName, CompiledGateway>) {
        for name in touched {
            let set = self.view.resources.listener_sets().get(&name);
            match set.and_then(|set| listener_set::parent(&name, set)).filter(|parent| ours.contains_key(parent)) {
                Some(gateway) => drop(self.dirty.gateways.insert(gateway)),
                None => self.set_status(object(Kind::ListenerSet, &name), None),
            }
        }
    }

    fn expiry_notices(&mut self) {
        for (name, state) in &self.memo.gateways {
            let notices = tls::expiry_notices(name, &state.compiled.listeners, self.view.observed.hour);
            self.out.notices.set(Topic::Expiry(name.clone()), notices);
        }
    }

    /// Whether a Secret or ConfigMap that a Gateway uses was touched, or who may use one. Grants change seldom: any may be about a Gateway.
    fn certificates_changed(&self) -> bool {
        let wanted = self.memo.certificates.wanted();
        let is_touched = wanted.iter().any(|object| self.changes.objects.contains(object));
        is_touched || self.changes.of(Kind::ReferenceGrant).next().is_some()
    }

    fn update_gateway(&mut self, name: ObjectName, compiled: CompiledGateway) {
        let relisting = match self.memo.gateways.get_mut(&name) {
            Some(state) if state.compiled == compiled => return,
            Some(state) => state.replace(compiled),
            None => {
                self.memo.gateways.insert(name.clone(), GatewayState::new(Arc::new(name.clone()), compiled));
                self.dirty_dependents_of(Kind::Gateway, &name);
                Relisting::default()
            }
        };
        for (listener, hostname) in relisting.judged {
            self.out.notices.set(Topic::Hostname { gateway: name.clone(), listener, hostname }, Vec::new());
        }
        if relisting.own {
            self.dirty_dependents_of(Kind::Gateway, &name);
        }
        // Who names a ListenerSet sees its listeners and no others.
        for set in relisting.sets {
            self.dirty_dependents_of(Kind::ListenerSet, &set);
        }
        self.dirty.sockets = true;
        self.dirty.infrastructure = true;
        self.dirty.gateways.insert(name);
    }

    fn gateway_notices(&mut self, touched: &[ObjectName], ours: &BTreeMap<ObjectName, CompiledGateway>) {
        let resources = self.view.resources;
        let gone = touched.iter().filter(|name| !resources.gateways().contains_key(*name)).map(|name| (name, None));
        let there = resources.gateways().iter().map(|(name, gateway)| (name, Some(gateway)));
        for (name, gateway) in gone.chain(there) {
            let options = self.view.options;
            let class = gateway.map(|gateway| &*gateway.spec.gateway_class_name);
            let mut ignored = ours.get(name).map(|ours| tls::notices(name, &ours.listeners)).unwrap_or_default();
            let outdated = ours.get(name).and_then(|gateway| gateway.outdated_class.as_ref());
            let unread = ours.get(name).and_then(|gateway| gateway.unread_parameters.as_ref());
            ignored.extend(outdated.into_iter().chain(unread).map(|why| format!("Gateway {name}: {why}")));
            let notice = class.filter(|class| resources.gateway_class(class).is_none()).map(|class| {
                let problem = format!("Gateway {name}: spec.gatewayClassName: there is no GatewayClass {}", word(class));
                if options.assumed_classes.contains(class) {
                    format!("{problem} here; the Gateway is served as one of {}", options.controller_name)
                } else {
                    format!("{problem}, so this Gateway is not served; apply one with spec.controllerName {}", options.controller_name)
                }
            });
            self.out.notices.set(Topic::Object(object(Kind::Gateway, name)), notice.into_iter().chain(ignored).collect());
        }
    }
}
