//! One BackendTLSPolicy: what it asks of the hosts of its targets.

use std::sync::Arc;

use gateway_api::backendtlspolicies::{
    BackendTlsPolicy, BackendTlsPolicyValidation, BackendTlsPolicyValidationCaCertificateRefs, BackendTlsPolicyValidationSubjectAltNames,
    BackendTlsPolicyValidationSubjectAltNamesType,
};
use rustls::pki_types::ServerName;

use crate::api::object_name;
use crate::base::{
    Kind, ObjectName, ObjectRef,
    text::{quoted, several, word},
};
use crate::snapshot::{HostIdentity, Trust, UpstreamTls};
use crate::translate::{
    Options, Resources,
    certificates::{Authorities, Certificates},
    condition::{Refusal, reason},
    policy::{Precedence, Target},
};

/// A BackendTLSPolicy, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct CompiledPolicy {
    pub(super) generation: Option<i64>,
    pub(super) precedence: Precedence,
    pub(super) targets: Vec<Target>,
    /// What is asked of hosts, or why nothing is sent to them.
    pub(super) tls: Result<Arc<UpstreamTls>, Refusal>,
    /// What of the references does not hold.
    pub(super) unresolved: Option<Refusal>,
    /// Fields that count for nothing, and why.
    pub(super) ignored: Vec<String>,
}

/// Compiles a policy. `previous`: the version before, whose settings are kept where they are the same: open connections hang on them.
pub(super) fn compile(
    policy: &BackendTlsPolicy,
    resources: &Resources,
    options: &Options,
    certificates: &mut Certificates,
    previous: Option<&CompiledPolicy>,
) -> CompiledPolicy {
    let name = object_name(&policy.metadata);
    let reference = ObjectRef { kind: Kind::BackendTlsPolicy, name: name.clone() };
    let mut ignored = Vec::new();
    let targets = targets(policy, &name, &mut ignored);
    if policy.spec.options.as_ref().is_some_and(|options| !options.is_empty()) {
        ignored.push("spec.options: none is known".to_owned());
    }
    let unreadable = resources.refused(&reference).filter(|refused| refused.outline);
    let (tls, unresolved) = match unreadable {
        Some(refused) => (Err(Refusal::new(reason::INVALID, &*refused.message)), None),
        None => settings(&policy.spec.validation, &name, resources, options, certificates),
    };
    let kept = |tls: UpstreamTls| match previous.and_then(|previous| previous.tls.as_ref().ok()) {
        Some(before) if **before == tls => Arc::clone(before),
        Some(_) | None => Arc::new(tls),
    };
    CompiledPolicy {
        generation: policy.metadata.generation,
        precedence: Precedence::of(&policy.metadata),
        targets,
        tls: tls.map(kept),
        unresolved,
        ignored,
    }
}

/// The Services that the policy is for, all of its own namespace.
fn targets(policy: &BackendTlsPolicy, name: &ObjectName, ignored: &mut Vec<String>) -> Vec<Target> {
    let mut targets = Vec::new();
    for (index, written) in policy.spec.target_refs.iter().enumerate() {
        if Kind::from_group_kind(&written.group, &written.kind) != Some(Kind::Service) {
            let group = if written.group.is_empty() { String::new() } else { format!("{}/", word(&written.group)) };
            ignored.push(format!(
                "spec.targetRefs[{index}]: kind {group}{} is not supported; expected a Service of the core group",
                word(&written.kind)
            ));
            continue;
        }
        let object = ObjectRef::new(Kind::Service, name.namespace.clone(), written.name.as_str());
        targets.push(Target::new(object, written.section_name.as_deref()));
    }
    targets
}

type Settings = (Result<UpstreamTls, Refusal>, Option<Refusal>);

fn settings(
    validation: &BackendTlsPolicyValidation,
    name: &ObjectName,
    resources: &Resources,
    options: &Options,
    certificates: &mut Certificates,
) -> Settings {
    let (trust, unresolved) = trust(validation, name, resources, options, certificates);
    let tls = trust.and_then(|trust| {
        let server_name = server_name(&validation.hostname)?;
        let names = validation.subject_alt_names.iter().flatten().enumerate();
        let names = names.map(|(index, written)| subject_alt_name(index, written)).collect::<Result<Vec<_>, _>>()?;
        Ok(UpstreamTls::new(server_name, names, trust))
    });
    (tls, unresolved)
}

fn server_name(hostname: &str) -> Result<ServerName<'static>, Refusal> {
    let name = ServerName::try_from(hostname.to_ascii_lowercase()).ok().filter(|name| matches!(name, ServerName::DnsName(_)));
    name.ok_or_else(|| {
        Refusal::new(reason::INVALID, format!("spec.validation.hostname: {} is no DNS name; expected one", quoted(hostname)))
    })
}

fn subject_alt_name(index: usize, written: &BackendTlsPolicyValidationSubjectAltNames) -> Result<HostIdentity, Refusal> {
    let field = format!("spec.validation.subjectAltNames[{index}]");
    let missing = |what: &str| Refusal::new(reason::INVALID, format!("{field}.{what} is missing; expected one for its type"));
    match written.r#type {
        BackendTlsPolicyValidationSubjectAltNamesType::Hostname => {
            let name = written.hostname.as_deref().filter(|name| !name.is_empty()).ok_or_else(|| missing("hostname"))?;
            Ok(HostIdentity::Dns(name.to_ascii_lowercase().into()))
        }
        BackendTlsPolicyValidationSubjectAltNamesType::Uri => {
            let name = written.uri.as_deref().filter(|name| !name.is_empty()).ok_or_else(|| missing("uri"))?;
            Ok(HostIdentity::Uri(name.into()))
        }
    }
}

/// Whom hosts' certificates must come from: of several references those that hold count.
fn trust(
    validation: &BackendTlsPolicyValidation,
    name: &ObjectName,
    resources: &Resources,
    options: &Options,
    certificates: &mut Certificates,
) -> (Result<Trust, Refusal>, Option<Refusal>) {
    let references = validation.ca_certificate_refs.as_deref().unwrap_or_default();
    let well_known = validation.well_known_ca_certificates.as_deref().filter(|known| !known.is_empty());
    if references.is_empty() {
        return (system_trust(well_known, options), None);
    }
    if well_known.is_some() {
        let message = "spec.validation: caCertificateRefs and wellKnownCACertificates are both set; expected one of them";
        return (Err(Refusal::new(reason::INVALID, message)), None);
    }
    let (mut authorities, mut refusals) = (Vec::new(), Vec::new());
    for (index, reference) in references.iter().enumerate() {
        match look_up(reference, name, resources, certificates) {
            Ok(found) => authorities.extend(found.iter().cloned()),
            Err(refusal) => {
                let message = format!("spec.validation.caCertificateRefs[{index}]: {}", refusal.message);
                refusals.push(Refusal::new(refusal.reason, message));
            }
        }
    }
    let messages: Vec<_> = refusals.iter().map(|refusal| refusal.message.as_str()).collect();
    let unresolved = refusals.first().map(|first| Refusal::new(first.reason, several(&messages)));
    let trust = match &unresolved {
        Some(unresolved) if authorities.is_empty() => Err(Refusal::new(reason::NO_VALID_CA_CERTIFICATE, unresolved.message.clone())),
        Some(_) | None => Ok(Trust::Authorities(authorities.into())),
    };
    (trust, unresolved)
}

fn system_trust(well_known: Option<&str>, options: &Options) -> Result<Trust, Refusal> {
    const FIELD: &str = "spec.validation.wellKnownCACertificates";
    let message = match well_known {
        Some("System") if options.has_system_authorities => return Ok(Trust::System),
        Some("System") => {
            format!("{FIELD}: this gateway's image has no certificates of authorities; expected caCertificateRefs, or an image with some")
        }
        Some(other) => format!("{FIELD}: {} is not known; expected System", quoted(other)),
        None => "spec.validation: neither caCertificateRefs nor wellKnownCACertificates is set; expected one of them".to_owned(),
    };
    Err(Refusal::new(reason::INVALID, message))
}

fn look_up(
    reference: &BackendTlsPolicyValidationCaCertificateRefs,
    policy: &ObjectName,
    resources: &Resources,
    certificates: &mut Certificates,
) -> Result<Authorities, Refusal> {
    let kind = Kind::from_group_kind(&reference.group, &reference.kind).filter(|kind| kind.is_read_by_name());
    let kind = kind.ok_or_else(|| {
        let group = if reference.group.is_empty() { String::new() } else { format!("{}/", word(&reference.group)) };
        let message = format!("kind {group}{} is not supported; expected a ConfigMap or a Secret of the core group", word(&reference.kind));
        Refusal::new(reason::INVALID_KIND, message)
    })?;
    let object = ObjectRef::new(kind, policy.namespace.clone(), reference.name.as_str());
    certificates.authorities(&object, resources).map_err(|problem| Refusal::new(reason::INVALID_CA_CERTIFICATE_REF, problem))
}
