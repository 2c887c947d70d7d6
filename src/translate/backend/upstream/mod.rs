//! Upstream: where requests go and how a host is chosen. Every field is honoured, answered with a warning, or refused by name.

mod compiled;
mod hosts;
mod settings;
mod view;

use crate::api::{Upstream, object_name};
use crate::base::text::several;
use crate::snapshot::{ConnectionOptions, UpstreamProtocol};
use crate::translate::gloo::fields::{UPSTREAM_FIELDS, survey};

use super::endpoints::EndpointRules;

pub(in crate::translate) use hosts::is_external_name;

pub use compiled::{ClusterSettings, CompiledHost, CompiledUpstream, UpstreamHosts};
pub use settings::{annotation_for_tls, service_settings};
pub use view::{BackendView, may_cross_namespaces};

/// Compiles an Upstream.
pub fn compile(upstream: &Upstream, view: &impl BackendView, rules: EndpointRules) -> CompiledUpstream {
    let spec = &upstream.spec;
    let name = object_name(&upstream.metadata);
    let mut compiled = CompiledUpstream::default();
    for field in survey(spec, UPSTREAM_FIELDS, &mut compiled.findings) {
        compiled.findings.refuse(field.message);
    }
    if spec.use_http2 == Some(true) {
        compiled.settings.connection = ConnectionOptions::of(UpstreamProtocol::H2c);
    }
    settings::settings(spec, &mut compiled);
    settings::proxy_protocol(spec, &mut compiled);
    let awaited = match (&spec.kube, &spec.static_hosts) {
        (Some(_), Some(_)) => {
            compiled.findings.refuse("fields spec.kube and spec.static are both set: expected one of them".to_owned());
            None
        }
        (None, None) => {
            // A backend of another kind was refused by name already.
            if compiled.findings.errors.is_empty() {
                compiled.findings.refuse("neither spec.kube nor spec.static is set: expected one of them".to_owned());
            }
            None
        }
        (Some(kube), None) => hosts::service_hosts(&name, kube, view, &mut compiled),
        (None, Some(listed)) => {
            hosts::static_hosts(listed, rules, &mut compiled);
            None
        }
    };
    if !compiled.findings.errors.is_empty() {
        compiled.refused = Some(format!("Upstream {name} is rejected: {}", several(&compiled.findings.errors)).into());
        compiled.hosts = UpstreamHosts::None;
    }
    // A Service that is not there yet is an error to its author, but no refusal: requests are answered 503 until it comes.
    compiled.findings.errors.extend(awaited.map(Into::into));
    compiled
}

#[cfg(test)]
pub(in crate::translate) mod tests;
