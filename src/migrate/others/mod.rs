//! From the affinity of other gateways to AffinityPolicies, and from their own kinds of routes to HTTPRoutes.

mod annotations;
mod contour;
mod envoy_gateway;
mod gateway;
mod haproxy;
mod ingress;
mod istio;
mod istio_routes;
mod kgateway;
mod nginx;
mod options;
mod policy;
mod route;
mod traefik;
mod traefik_rules;
mod unread;

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    check,
    installation::Installation,
    names::MigrationOptions,
    output::{Migration, Output},
    report::Effect,
};

pub use options::OtherOptions;

/// Migrates what an export, or a directory of manifests, has of other gateways. Lists are taken apart.
pub fn migrate_others(documents: Vec<Value>, options: &OtherOptions) -> Migration {
    let mut output = Output::default();
    let installation = Installation::new(documents, &mut output);
    let mut routes = ingress::read(&installation, &mut output);
    routes.extend(traefik::read(&installation, &mut output));
    routes.extend(contour::read(&installation, &mut output));
    routes.extend(istio_routes::read(&installation, &mut output));
    haproxy::services(&installation, &mut output);
    traefik::services(&installation, &mut output);
    istio::read(&installation, &mut output);
    envoy_gateway::read(&installation, &mut output);
    kgateway::read(&installation, &mut output);
    gateway::twins(&installation, options, &mut output);
    gateway::write(&routes, options, &mut output);
    route::write(&routes, &options.gateway, &installation, &mut output);
    unread::tell(&installation, &mut output);
    if output.files.is_empty() {
        let expected = "there is nothing of another gateway in it that can be taken over: expected Ingresses, IngressRoutes, HTTPProxies, \
                        DestinationRules, VirtualServices, BackendTrafficPolicies or BackendConfigPolicies";
        output.note(Effect::ToDo, "export", expected);
    }
    let as_gloo = MigrationOptions { class: options.class.clone(), suffix: "-clingfish".into() };
    check::check(&installation, &BTreeSet::new(), &as_gloo, &mut output);
    output.finish()
}
