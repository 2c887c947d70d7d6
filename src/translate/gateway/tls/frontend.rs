//! `spec.tls.frontend` of a Gateway: which certificates its clients must show, by port.

use crate::snapshot::ClientValidationMode;
use gateway_api::experimental::gateways::{
    Gateway, GatewayTlsFrontend, GatewayTlsFrontendDefaultValidation, GatewayTlsFrontendDefaultValidationMode,
    GatewayTlsFrontendPerPortTlsValidation, GatewayTlsFrontendPerPortTlsValidationMode,
};

/// A validation as it is written, whatever the generated type is called.
#[derive(Debug)]
pub(super) struct Written<'a> {
    /// Where it is written.
    pub(super) field: String,
    pub(super) mode: ClientValidationMode,
    /// To objects with authorities.
    pub(super) references: Vec<Reference<'a>>,
}

/// A reference to an object with authorities.
#[derive(Debug)]
pub(super) struct Reference<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: &'a str,
}

macro_rules! references {
    ($validation:expr) => {
        $validation
            .ca_certificate_refs
            .iter()
            .map(|written| Reference {
                group: &written.group,
                kind: &written.kind,
                namespace: written.namespace.as_deref(),
                name: &written.name,
            })
            .collect()
    };
}

/// What is asked of the clients of a port: the port's own word counts, else the default. `None`: nothing.
pub(super) fn of_port(gateway: &Gateway, port: i32) -> Option<Written<'_>> {
    written(gateway.spec.tls.as_ref()?.frontend.as_ref()?, port)
}

/// Where clients are let in although they show no certificate, or one that is not valid; for the Gateway's condition.
pub(in crate::translate) fn insecure(gateway: &Gateway) -> Option<String> {
    let frontend = gateway.spec.tls.as_ref()?.frontend.as_ref()?;
    let of_default = frontend.default.validation.as_ref().map(|validation| (DEFAULT.to_owned(), of_default(validation)));
    let of_ports = frontend.per_port.iter().flatten().enumerate();
    let of_ports = of_ports.filter_map(|(index, own)| Some((port_field(index), own.tls.validation.as_ref().map(of_own)?)));
    let all = of_default.into_iter().chain(of_ports);
    let fields: Vec<_> = all.filter(|(_, mode)| *mode == ClientValidationMode::AllowInsecureFallback).map(|(field, _)| field).collect();
    (!fields.is_empty()).then(|| {
        let fields = fields.join(", ");
        format!("{fields}: mode AllowInsecureFallback lets clients in that show no valid certificate; who they are is left to the backends")
    })
}

const DEFAULT: &str = "spec.tls.frontend.default.validation";

fn port_field(index: usize) -> String {
    format!("spec.tls.frontend.perPort[{index}].tls.validation")
}

fn written(frontend: &GatewayTlsFrontend, port: i32) -> Option<Written<'_>> {
    match frontend.per_port.iter().flatten().enumerate().find(|(_, own)| own.port == port) {
        Some((index, own)) => {
            let validation = own.tls.validation.as_ref()?;
            Some(Written { field: port_field(index), mode: of_own(validation), references: references!(validation) })
        }
        None => {
            let validation = frontend.default.validation.as_ref()?;
            Some(Written { field: DEFAULT.to_owned(), mode: of_default(validation), references: references!(validation) })
        }
    }
}

fn of_default(validation: &GatewayTlsFrontendDefaultValidation) -> ClientValidationMode {
    match validation.mode {
        Some(GatewayTlsFrontendDefaultValidationMode::AllowInsecureFallback) => ClientValidationMode::AllowInsecureFallback,
        Some(GatewayTlsFrontendDefaultValidationMode::AllowValidOnly) | None => ClientValidationMode::AllowValidOnly,
    }
}

fn of_own(validation: &GatewayTlsFrontendPerPortTlsValidation) -> ClientValidationMode {
    match validation.mode {
        Some(GatewayTlsFrontendPerPortTlsValidationMode::AllowInsecureFallback) => ClientValidationMode::AllowInsecureFallback,
        Some(GatewayTlsFrontendPerPortTlsValidationMode::AllowValidOnly) | None => ClientValidationMode::AllowValidOnly,
    }
}
