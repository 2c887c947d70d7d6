//! TLS of listeners: mode, certificateRefs, options, the clients that are let in, what is not served, the listeners that overlap.

mod expiry;
mod frontend;
pub(super) mod listener_tls;
mod options;

use std::{collections::BTreeMap, sync::Arc};

use gateway_api::experimental::gateways::{Gateway, GatewayListeners, GatewayListenersTlsCertificateRefs, GatewayListenersTlsMode};
use rustls::pki_types::CertificateDer;

use crate::base::{
    Kind, ObjectName, ObjectRef,
    text::{several, word},
};
use crate::snapshot::{
    Certificate, ClientValidation, ClientValidationMode, Hostname, TlsContent, TlsListener, TlsSettings, TlsTermination, TransportPort,
};
use crate::translate::{
    CrossReference, Resources,
    certificates::{Authorities, Certificates, Found},
    condition::{Refusal, reason},
    options::GLOO_CLASS,
};

use super::{listener::CompiledListener, protocol::Protocol, sockets::Socket};

pub(in crate::translate) use expiry::notices as expiry_notices;
pub(in crate::translate) use frontend::insecure as insecure_frontend;

use listener_tls::ListenerTls;
use options::TlsOptions;

/// Where certificates are looked for.
pub(super) struct Sources<'a> {
    pub(in crate::translate) resources: &'a Resources,
    pub(in crate::translate) certificates: &'a mut Certificates,
}

/// The references of a listener, looked up.
#[derive(Default)]
struct References {
    certificates: Vec<Arc<Certificate>>,
    /// Of the Secrets that name some, if they are asked for.
    authorities: Vec<Authorities>,
    /// Authorities are asked for, and those of a Secret cannot be used or are not known.
    lacks_authorities: bool,
    refusals: Vec<Refusal>,
    oddities: Vec<String>,
}

/// Completes the listeners of a Gateway that terminate TLS.
///
/// `written`: the listeners as they are written, its own and those of its ListenerSets.
pub(super) fn complete<'a>(
    name: &ObjectName,
    gateway: &Gateway,
    written: impl Iterator<Item = &'a GatewayListeners>,
    listeners: &mut [CompiledListener],
    sources: &mut Sources<'_>,
) {
    for (listener, compiled) in written.zip(listeners.iter_mut()) {
        let content = match Protocol::parse(&listener.protocol) {
            Protocol::Https => TlsContent::Http,
            Protocol::Tls if !passes_through(listener) => TlsContent::Opaque,
            Protocol::Tls | Protocol::Http | Protocol::Tcp | Protocol::Udp | Protocol::Other => continue,
        };
        let read = options::read(listener.tls.as_ref().and_then(|tls| tls.options.as_ref()));
        let (options, unknown) = match read {
            Ok(options) => (options, None),
            Err(problem) => (TlsOptions::default(), Some(Refusal::unsupported(problem))),
        };
        // References are resolved even if the listener is refused: their condition stands by itself.
        let frontend = frontend::of_port(gateway, listener.port).map(|written| Frontend::look_up(name, written, sources));
        let asks = frontend.is_none() && asks_for_authorities(gateway, &options);
        let referrer = match &compiled.shape.set {
            Some(set) => ObjectRef { kind: Kind::ListenerSet, name: (**set).clone() },
            None => ObjectRef { kind: Kind::Gateway, name: name.clone() },
        };
        let references = resolve(&referrer, listener, asks, sources);
        let (mut tls, unverifiable) = settle(references, options, frontend);
        tls.settings.content = content;
        let unguarded = unknown.or(unverifiable);
        if unguarded.is_some() {
            tls.is_withheld = true;
            tls.certificates = Arc::default();
        }
        compiled.tls = Some(tls);
        if let Some(refusal) = refusal(listener).or(unguarded) {
            compiled.refused.get_or_insert(refusal);
        }
    }
    mark_overlaps(listeners);
}

/// Whether connections go to the backend as they are, still encrypted.
fn passes_through(listener: &GatewayListeners) -> bool {
    listener.tls.as_ref().is_some_and(|tls| matches!(tls.mode, Some(GatewayListenersTlsMode::Passthrough)))
}

/// Why a listener is not served, whatever its certificates are.
fn refusal(listener: &GatewayListeners) -> Option<Refusal> {
    let tls = listener.tls.as_ref();
    if passes_through(listener) {
        return Some(Refusal::unsupported("tls.mode: Passthrough is not served for protocol HTTPS; expected Terminate"));
    }
    if tls.and_then(|tls| tls.certificate_refs.as_ref()).is_none_or(Vec::is_empty) {
        return Some(Refusal::unsupported("tls.certificateRefs: expected at least one Secret with a certificate"));
    }
    None
}

/// Whether `ca.crt` of the listener's Secrets says which clients are let in: for Gloo's class, and where an option speaks of it. Elsewhere it
/// says nothing: cert-manager writes it into every Secret.
fn asks_for_authorities(gateway: &Gateway, options: &TlsOptions) -> bool {
    gateway.spec.gateway_class_name == GLOO_CLASS || options.one_way.is_some() || !options.subject_alt_names.is_empty()
}

fn resolve(referrer: &ObjectRef, listener: &GatewayListeners, asks: bool, sources: &mut Sources<'_>) -> References {
    let mut all = References::default();
    let references = listener.tls.iter().flat_map(|tls| tls.certificate_refs.iter().flatten());
    for (index, reference) in references.enumerate() {
        let (found, problem) = look_up(referrer, reference, sources);
        all.refusals.extend(problem.map(|problem| {
            let serving = found
                .certificate
                .as_ref()
                .map(|serving| format!("; its last usable certificate (sha256 {}) keeps serving", serving.fingerprint));
            let message = format!("tls.certificateRefs[{index}]: {}{}", problem.message, serving.unwrap_or_default());
            Refusal::new(problem.reason, message)
        }));
        all.oddities.extend(found.oddities.iter().cloned());
        all.certificates.extend(found.certificate);
        if asks {
            if let Some(problem) = found.authorities_problem {
                let kept = if found.authorities.is_some() { "; its last usable authorities stay in force" } else { "" };
                let message = format!("tls.certificateRefs[{index}]: {problem}{kept}");
                all.refusals.push(Refusal::new(reason::INVALID_CERTIFICATE_REF, message));
                all.lacks_authorities |= found.authorities.is_none();
            }
            all.lacks_authorities |= found.is_unknown;
            all.authorities.extend(found.authorities);
        }
    }
    all
}

/// What follows from references and options; why no client could be verified as it is asked for. What the Gateway asks of the clients of the
/// port comes before what options and Secrets say.
fn settle(mut references: References, options: TlsOptions, frontend: Option<Frontend>) -> (ListenerTls, Option<Refusal>) {
    references.refusals.extend(frontend.iter().flat_map(|frontend| frontend.refusals.iter().cloned()));
    let messages: Vec<_> = references.refusals.iter().map(|refusal| refusal.message.as_str()).collect();
    let unresolved = references.refusals.first().map(|first| Refusal::new(first.reason, several(&messages)));
    let ignored = frontend.as_ref().and_then(|frontend| overruled(frontend, &options));
    let validation = match &frontend {
        Some(frontend) => frontend_validation(frontend, &options).map(Some),
        None => client_validation(&references, &options),
    };
    let (client_validation, unverifiable) = match validation {
        Ok(validation) => (validation, None),
        Err(refusal) => (None, Some(refusal)),
    };
    // Clients are to be verified, or may have to be, and it is not known by what: nobody is let in, rather than anybody.
    let is_guarded = references.lacks_authorities || !options.subject_alt_names.is_empty();
    let closed = is_guarded && client_validation.is_none();
    let certificates = if closed { Vec::new() } else { references.certificates };
    let settings = TlsSettings {
        versions: options.versions,
        cipher_suites: options.cipher_suites,
        groups: options.groups,
        client_validation,
        ..TlsSettings::default()
    };
    let remarks = options.remarks.into_iter().chain(references.oddities).chain(ignored).collect();
    (ListenerTls { certificates: certificates.into(), settings, unresolved, overlaps: None, is_withheld: false, remarks }, unverifiable)
}

/// An option that does not count beside what the Gateway asks of its clients.
fn overruled(frontend: &Frontend, options: &TlsOptions) -> Option<String> {
    let field = &frontend.field;
    options
        .one_way
        .map(|_| format!("tls.options: gateway.gloo.solo.io/ssl/one-way-tls does not count: {field} says which clients are let in"))
}

fn frontend_validation(frontend: &Frontend, options: &TlsOptions) -> Result<Arc<ClientValidation>, Refusal> {
    if frontend.authorities.is_empty() {
        let field = &frontend.field;
        let message =
            format!("{field}.caCertificateRefs: none of them can be used, so no client could be verified; this listener is not served");
        return Err(Refusal::new(reason::NO_VALID_CA_CERTIFICATE, message));
    }
    Ok(Arc::new(ClientValidation {
        authorities: frontend.authorities.iter().cloned().collect(),
        mode: frontend.mode,
        subject_alt_names: options.subject_alt_names.clone(),
    }))
}

fn client_validation(references: &References, options: &TlsOptions) -> Result<Option<Arc<ClientValidation>>, Refusal> {
    let Some(authorities) = references.authorities.first() else {
        // While a reference is not resolved there is nothing to say of what it should have named.
        let is_missing = !options.subject_alt_names.is_empty() && references.refusals.is_empty();
        return if is_missing {
            Err(Refusal::unsupported(
                "tls.options: gateway.gloo.solo.io/ssl/verify-subject-alt-name: no client can be verified without authorities; expected a \
                 Secret of tls.certificateRefs with ca.crt",
            ))
        } else {
            Ok(None)
        };
    };
    if references.authorities.iter().any(|other| other != authorities) {
        return Err(Refusal::unsupported(
            "tls.certificateRefs: the Secrets have different authorities in ca.crt; expected the same, so that it is clear which clients are let \
             in",
        ));
    }
    let mode = if options.one_way == Some(true) { ClientValidationMode::AllowValidOrNone } else { ClientValidationMode::AllowValidOnly };
    Ok(Some(Arc::new(ClientValidation {
        authorities: authorities.iter().cloned().collect(),
        mode,
        subject_alt_names: options.subject_alt_names.clone(),
    })))
}

/// The certificate that a Gateway shows to hosts (`spec.tls.backend.clientCertificateRef`), and what is wrong with the reference. `None`: it
/// names none.
pub(super) fn host_identity(name: &ObjectName, gateway: &Gateway, sources: &mut Sources<'_>) -> Option<HostIdentitySource> {
    let written = gateway.spec.tls.as_ref()?.backend.as_ref()?.client_certificate_ref.as_ref()?;
    let reference = GatewayListenersTlsCertificateRefs {
        group: written.group.clone(),
        kind: written.kind.clone(),
        name: written.name.clone(),
        namespace: written.namespace.clone(),
    };
    let (found, problem) = look_up(&ObjectRef { kind: Kind::Gateway, name: name.clone() }, &reference, sources);
    let unresolved = problem.map(|problem| {
        let serving = found.certificate.as_ref();
        let serving = serving.map(|serving| format!("; its last usable certificate (sha256 {}) is shown on", serving.fingerprint));
        let reason = match problem.reason {
            reason::REF_NOT_PERMITTED => reason::REF_NOT_PERMITTED,
            _ => reason::INVALID_CLIENT_CERTIFICATE_REF,
        };
        let message = format!("spec.tls.backend.clientCertificateRef: {}{}", problem.message, serving.unwrap_or_default());
        Refusal::new(reason, message)
    });
    Some(HostIdentitySource { certificate: found.certificate, unresolved })
}

/// What became of the reference to the certificate that a Gateway shows to hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostIdentitySource {
    pub(in crate::translate) certificate: Option<Arc<Certificate>>,
    /// What is wrong with it as it is now.
    pub(in crate::translate) unresolved: Option<Refusal>,
}

/// What a Gateway asks of the clients of a port, its references looked up.
#[derive(Debug)]
struct Frontend {
    /// Where it is written.
    field: String,
    mode: ClientValidationMode,
    /// Of all references that hold; none: nobody can be let in.
    authorities: Vec<CertificateDer<'static>>,
    /// What is wrong with the others.
    refusals: Vec<Refusal>,
}

impl Frontend {
    fn look_up(gateway: &ObjectName, written: frontend::Written<'_>, sources: &mut Sources<'_>) -> Self {
        let frontend::Written { field, mode, references } = written;
        let (mut found, mut refusals) = (Vec::new(), Vec::new());
        for (index, reference) in references.iter().enumerate() {
            match authorities(gateway, reference, sources) {
                Ok(authorities) => found.extend(authorities.iter().cloned()),
                Err(refusal) => {
                    refusals.push(Refusal::new(refusal.reason, format!("{field}.caCertificateRefs[{index}]: {}", refusal.message)));
                }
            }
        }
        Self { field, mode, authorities: found, refusals }
    }
}

fn authorities(gateway: &ObjectName, reference: &frontend::Reference<'_>, sources: &mut Sources<'_>) -> Result<Authorities, Refusal> {
    let kind = Kind::from_group_kind(reference.group, reference.kind).filter(|kind| kind.is_read_by_name()).ok_or_else(|| {
        let group = if reference.group.is_empty() { String::new() } else { format!("{}/", word(reference.group)) };
        let message = format!("kind {group}{} is not supported; expected a ConfigMap or a Secret of the core group", word(reference.kind));
        Refusal::new(reason::INVALID_CA_CERTIFICATE_KIND, message)
    })?;
    let namespace = reference.namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(&gateway.namespace);
    let object = ObjectRef::new(kind, namespace, reference.name);
    let crossing = CrossReference {
        from: Kind::Gateway,
        from_namespace: &gateway.namespace,
        to: kind,
        to_namespace: namespace,
        to_name: reference.name,
    };
    if !crossing.is_permitted(sources.resources) {
        let message = format!(
            "no ReferenceGrant in namespace {} permits Gateways of namespace {} to refer to {object}",
            word(namespace),
            gateway.namespace
        );
        return Err(Refusal::new(reason::REF_NOT_PERMITTED, message));
    }
    let found = sources.certificates.authorities(&object, sources.resources);
    found.map_err(|problem| Refusal::new(reason::INVALID_CA_CERTIFICATE_REF, problem))
}

/// What there is for a reference, and what is wrong with the reference. Without permission nothing serves, not even what did.
fn look_up(referrer: &ObjectRef, reference: &GatewayListenersTlsCertificateRefs, sources: &mut Sources<'_>) -> (Found, Option<Refusal>) {
    let (group, kind) = (reference.group.as_deref().unwrap_or_default(), reference.kind.as_deref().unwrap_or(Kind::Secret.as_str()));
    if Kind::from_group_kind(group, kind) != Some(Kind::Secret) {
        let found = if group.is_empty() { word(kind).to_string() } else { format!("{}/{}", word(group), word(kind)) };
        let message = format!("kind {found} is not supported; expected a Secret of the core group");
        return (Found { is_unknown: true, ..Found::default() }, Some(Refusal::new(reason::INVALID_CERTIFICATE_REF, message)));
    }
    let namespace = reference.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(&referrer.name.namespace);
    let secret = ObjectName::new(namespace, reference.name.as_str());
    let crossing = CrossReference {
        from: referrer.kind,
        from_namespace: &referrer.name.namespace,
        to: Kind::Secret,
        to_namespace: namespace,
        to_name: &reference.name,
    };
    if !crossing.is_permitted(sources.resources) {
        let message = format!(
            "no ReferenceGrant in namespace {} permits {}s of namespace {} to refer to Secret {secret}",
            word(namespace),
            referrer.kind,
            referrer.name.namespace
        );
        return (Found { is_unknown: true, ..Found::default() }, Some(Refusal::new(reason::REF_NOT_PERMITTED, message)));
    }
    let found = sources.certificates.find(&secret, sources.resources);
    let problem = found.problem.as_deref().map(|problem| Refusal::new(reason::INVALID_CERTIFICATE_REF, problem));
    (found, problem)
}

/// Tells HTTPS listeners of one port that have hostnames in common: a client may believe that a connection to one is good for the other.
fn mark_overlaps(listeners: &mut [CompiledListener]) {
    let serving = |listener: &&CompiledListener| listener.tls.is_some() && !listener.is_refused();
    let overlaps: Vec<Option<String>> = listeners
        .iter()
        .map(|listener| {
            let others = listeners.iter().filter(serving).filter(|other| {
                other.shape.name != listener.shape.name
                    && other.shape.port == listener.shape.port
                    && other.shape.hostname.intersect(&listener.shape.hostname).is_some()
            });
            let others: Vec<_> = others.map(|other| format!("{} ({})", word(&other.shape.name), other.shape.hostname)).collect();
            (!others.is_empty()).then(|| {
                format!(
                    "hostname {} overlaps with that of other listeners of port {}: {}; each handshake and each request gets the most specific \
                     one, and requests for another listener than the connection's are answered with 421",
                    listener.shape.hostname,
                    listener.shape.port,
                    others.join(", ")
                )
            })
        })
        .collect();
    for (listener, overlaps) in listeners.iter_mut().zip(overlaps) {
        if listener.is_refused() {
            continue;
        }
        if let Some(tls) = &mut listener.tls {
            tls.overlaps = overlaps;
        }
    }
}

/// What an operator should read of a Gateway's TLS settings.
pub(in crate::translate) fn notices(name: &ObjectName, listeners: &[CompiledListener]) -> Vec<String> {
    let mut notices = Vec::new();
    for listener in listeners {
        let remarks = listener.tls.iter().flat_map(|tls| &tls.remarks);
        notices.extend(remarks.map(|remark| format!("Gateway {name}: listener {}: {remark}", word(&listener.shape.name))));
    }
    notices
}

/// What each port needs to terminate TLS; kept from `previous` where nothing about it changed, listener by listener: session tickets hang on it.
pub(super) fn terminations(
    listeners: &[CompiledListener],
    sockets: &[Socket],
    previous: &BTreeMap<TransportPort, Arc<TlsTermination>>,
) -> BTreeMap<TransportPort, Arc<TlsTermination>> {
    let mut terminations = BTreeMap::new();
    for socket in sockets {
        let before = previous.get(&socket.port);
        let on_socket = socket.listeners.iter().filter_map(|index| listeners.get(*index));
        let on_socket: Vec<_> = on_socket.filter_map(|listener| termination_of(listener, before)).collect();
        if on_socket.is_empty() {
            continue;
        }
        let termination = TlsTermination::new(on_socket);
        let kept = before.filter(|before| ***before == termination).map(Arc::clone);
        terminations.insert(socket.port, kept.unwrap_or_else(|| Arc::new(termination)));
    }
    terminations
}

fn termination_of(listener: &CompiledListener, previous: Option<&Arc<TlsTermination>>) -> Option<(Hostname, Arc<TlsListener>)> {
    let tls = listener.tls.as_ref()?;
    let now = TlsListener::new(Arc::clone(&listener.shape.name), Arc::clone(&tls.certificates), tls.settings.clone());
    let before = previous.and_then(|previous| previous.listeners().find(|(hostname, _)| **hostname == listener.shape.hostname));
    let kept = before.filter(|(_, before)| ***before == now).map(|(_, before)| Arc::clone(before));
    Some((listener.shape.hostname.clone(), kept.unwrap_or_else(|| Arc::new(now))))
}

#[cfg(test)]
mod tests;
