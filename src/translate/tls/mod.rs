//! TLS of listeners: mode, certificateRefs, what is not served, which listeners overlap.

use std::{collections::BTreeMap, sync::Arc};

use gateway_api::experimental::gateways::{Gateway, GatewayListeners, GatewayListenersTlsCertificateRefs, GatewayListenersTlsMode};

use crate::base::{Kind, ObjectName, text::word};
use crate::snapshot::{Certificate, ListenerCertificates, TlsTermination};

use super::{
    CrossReference, Resources,
    certificates::Certificates,
    condition::{Refusal, reason},
    listener::{CompiledListener, Protocol},
    sockets::Socket,
};

/// How an HTTPS listener terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListenerTls {
    /// In the order of the references; without any, the listener does not serve.
    certificates: Box<[Arc<Certificate>]>,
    /// What of the references does not hold.
    pub(super) unresolved: Option<Refusal>,
    /// Which listeners of the port have hostnames in common with this one.
    pub(super) overlaps: Option<String>,
}

/// Where certificates are looked for.
pub(super) struct Sources<'a> {
    pub(super) resources: &'a Resources,
    pub(super) certificates: &'a mut Certificates,
}

/// Completes the HTTPS listeners of a Gateway.
pub(super) fn complete(name: &ObjectName, gateway: &Gateway, listeners: &mut [CompiledListener], sources: &mut Sources<'_>) {
    for (listener, compiled) in gateway.spec.listeners.iter().zip(listeners.iter_mut()) {
        if Protocol::parse(&listener.protocol) != Protocol::Https {
            continue;
        }
        // References are resolved even if the listener is refused: their condition stands by itself.
        compiled.tls = Some(resolve(name, listener, sources));
        if let Some(refusal) = refusal(gateway, listener) {
            compiled.refused.get_or_insert(refusal);
        }
    }
    mark_overlaps(listeners);
}

/// Why a listener is not served, whatever its certificates are.
fn refusal(gateway: &Gateway, listener: &GatewayListeners) -> Option<Refusal> {
    let tls = listener.tls.as_ref();
    if tls.is_some_and(|tls| matches!(tls.mode, Some(GatewayListenersTlsMode::Passthrough))) {
        return Some(Refusal::unsupported("tls.mode: Passthrough is not served for protocol HTTPS; expected Terminate"));
    }
    if tls.and_then(|tls| tls.certificate_refs.as_ref()).is_none_or(Vec::is_empty) {
        return Some(Refusal::unsupported("tls.certificateRefs: expected at least one Secret with a certificate"));
    }
    validates_clients(gateway, listener.port).then(|| {
        Refusal::unsupported(
            "spec.tls.frontend: clients' certificates cannot be validated yet; this listener is not served, rather than served without \
             the validation that is asked for",
        )
    })
}

/// Whether the clients of a port must show certificates: the port's own word counts, else the default.
fn validates_clients(gateway: &Gateway, port: i32) -> bool {
    let Some(frontend) = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else { return false };
    match frontend.per_port.iter().flatten().find(|own| own.port == port) {
        Some(own) => own.tls.validation.is_some(),
        None => frontend.default.validation.is_some(),
    }
}

fn resolve(gateway: &ObjectName, listener: &GatewayListeners, sources: &mut Sources<'_>) -> ListenerTls {
    let mut certificates: Vec<Arc<Certificate>> = Vec::new();
    let mut refusals: Vec<Refusal> = Vec::new();
    let references = listener.tls.iter().flat_map(|tls| tls.certificate_refs.iter().flatten());
    for (index, reference) in references.enumerate() {
        let (certificate, problem) = certificate(gateway, reference, sources);
        refusals.extend(problem.map(|problem| {
            let serving =
                certificate.as_ref().map(|serving| format!("; its last usable certificate (sha256 {}) keeps serving", serving.fingerprint));
            let message = format!("tls.certificateRefs[{index}]: {}{}", problem.message, serving.unwrap_or_default());
            Refusal::new(problem.reason, message)
        }));
        certificates.extend(certificate);
    }
    let messages: Vec<_> = refusals.iter().map(|refusal| refusal.message.as_str()).collect();
    let unresolved = refusals.first().map(|first| Refusal::new(first.reason, messages.join("; ")));
    ListenerTls { certificates: certificates.into(), unresolved, overlaps: None }
}

/// The certificate that serves for a reference, and what is wrong with the reference. Without permission nothing serves, not even what did.
fn certificate(
    gateway: &ObjectName,
    reference: &GatewayListenersTlsCertificateRefs,
    sources: &mut Sources<'_>,
) -> (Option<Arc<Certificate>>, Option<Refusal>) {
    let (group, kind) = (reference.group.as_deref().unwrap_or_default(), reference.kind.as_deref().unwrap_or(Kind::Secret.as_str()));
    if Kind::from_group_kind(group, kind) != Some(Kind::Secret) {
        let found = if group.is_empty() { word(kind).to_string() } else { format!("{}/{}", word(group), word(kind)) };
        let message = format!("kind {found} is not supported; expected a Secret of the core group");
        return (None, Some(Refusal::new(reason::INVALID_CERTIFICATE_REF, message)));
    }
    let namespace = reference.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(&gateway.namespace);
    let secret = ObjectName::new(namespace, reference.name.as_str());
    let crossing = CrossReference {
        from: Kind::Gateway,
        from_namespace: &gateway.namespace,
        to: Kind::Secret,
        to_namespace: namespace,
        to_name: &reference.name,
    };
    if !crossing.is_permitted(sources.resources) {
        let message = format!(
            "no ReferenceGrant in namespace {} permits Gateways of namespace {} to refer to Secret {secret}",
            word(namespace),
            gateway.namespace
        );
        return (None, Some(Refusal::new(reason::REF_NOT_PERMITTED, message)));
    }
    let found = sources.certificates.find(&secret, sources.resources);
    (found.certificate, found.problem.map(|problem| Refusal::new(reason::INVALID_CERTIFICATE_REF, problem)))
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

/// What is ignored of a Gateway's TLS settings.
pub(super) fn notices(name: &ObjectName, gateway: &Gateway) -> Vec<String> {
    let mut notices = Vec::new();
    if gateway.spec.tls.as_ref().is_some_and(|tls| tls.backend.is_some()) {
        notices.push(format!(
            "Gateway {name}: spec.tls.backend: connections to backends are not encrypted yet, so the client certificate is not used"
        ));
    }
    for listener in &gateway.spec.listeners {
        let options = listener.tls.iter().flat_map(|tls| tls.options.iter().flatten()).map(|(key, _)| word(key).to_string());
        let options: Vec<_> = options.collect();
        if !options.is_empty() {
            let keys = options.join(", ");
            notices.push(format!("Gateway {name}: listener {}: tls.options: no option is known, ignored: {keys}", word(&listener.name)));
        }
    }
    notices
}

/// What each port needs to terminate TLS; kept from `previous` where nothing about its certificates changed.
pub(super) fn terminations(
    listeners: &[CompiledListener],
    sockets: &[Socket],
    previous: &BTreeMap<u16, Arc<TlsTermination>>,
) -> BTreeMap<u16, Arc<TlsTermination>> {
    let mut terminations = BTreeMap::new();
    for socket in sockets {
        let on_socket = socket.listeners.iter().filter_map(|index| listeners.get(*index));
        let certificates: Vec<_> = on_socket.filter_map(termination_of).collect();
        if certificates.is_empty() {
            continue;
        }
        let termination = TlsTermination::new(certificates);
        let kept = previous.get(&socket.port).filter(|previous| ***previous == termination).map(Arc::clone);
        terminations.insert(socket.port, kept.unwrap_or_else(|| Arc::new(termination)));
    }
    terminations
}

fn termination_of(listener: &CompiledListener) -> Option<(crate::snapshot::Hostname, ListenerCertificates)> {
    let tls = listener.tls.as_ref()?;
    let certificates = ListenerCertificates { name: Arc::clone(&listener.shape.name), certificates: tls.certificates.clone() };
    Some((listener.shape.hostname.clone(), certificates))
}

// === impl ListenerTls ===

impl ListenerTls {
    /// Whether handshakes can be answered.
    pub(super) fn is_usable(&self) -> bool {
        !self.certificates.is_empty()
    }
}

#[cfg(test)]
mod tests;
