//! Why a port of a Service has no address to send to: what was seen, in one sentence.

use std::{collections::BTreeSet, fmt};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
};

use crate::base::{ObjectName, text::word};
use crate::translate::Changes;

use super::{is_ready, slice_port, still_serves};

/// How many names a sentence lists.
const MAX_LISTED: usize = 3;

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    service: ObjectName,
    cause: Cause,
}

/// What was seen instead of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// No slice names the Service in its label.
    NoSlice(Option<StraySlice>),
    /// All slices hold DNS names.
    Fqdn(ObjectName),
    /// Slices list endpoints, but none under the port's name.
    NoPort { wanted: Box<str>, seen: Box<[Box<str>]> },
    /// The slices list no endpoint.
    Empty,
    /// No endpoint is ready.
    NotReady,
    /// No address of a ready endpoint may or can be sent to.
    LeftOut,
}

/// An EndpointSlice that may be meant for the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StraySlice {
    /// It is in the Service's namespace, and its label is missing.
    Unlabelled(ObjectName),
    /// Its label is right, and it is in another namespace.
    Elsewhere(ObjectName),
}

// === impl Gap ===

impl Gap {
    /// What is wrong with the slices of a Service as they are written, however its pods are: it stays until somebody changes something. Only
    /// this goes into statuses. Pods come and go all the time, and a status that told of each would be written to the API server each time,
    /// for every route to the Service.
    pub fn structural(
        name: &ObjectName,
        service: &Service,
        port: &ServicePort,
        slices: &[&EndpointSlice],
        stray: impl FnOnce() -> Option<StraySlice>,
    ) -> Option<Self> {
        let gap = |cause| Some(Self { service: name.clone(), cause });
        if slices.is_empty() {
            return gap(Cause::NoSlice(stray()));
        }
        if slices.iter().all(|slice| slice.address_type == "FQDN") {
            let first = slices.iter().map(|slice| object_name(slice)).min()?;
            return gap(Cause::Fqdn(first));
        }
        // A Service without pods has slices without ports.
        let filled = || slices.iter().filter(|slice| slice.address_type != "FQDN" && !slice.endpoints.is_empty());
        if filled().next().is_none() || filled().any(|slice| slice_port(slice, port, is_single(service)).is_some()) {
            return None;
        }
        let ports = filled().flat_map(|slice| slice.ports.iter().flatten());
        let seen: BTreeSet<Box<str>> = ports.map(|port| port.name.as_deref().unwrap_or_default().into()).collect();
        gap(Cause::NoPort { wanted: port.name.as_deref().unwrap_or_default().into(), seen: seen.into_iter().collect() })
    }

    /// Why there is no address, where there is none.
    pub fn of(
        name: &ObjectName,
        service: &Service,
        port: &ServicePort,
        slices: &[&EndpointSlice],
        stray: impl FnOnce() -> Option<StraySlice>,
    ) -> Self {
        let momentary = || {
            let serving = slices.iter().filter(|slice| slice_port(slice, port, is_single(service)).is_some());
            let mut endpoints = serving.flat_map(|slice| &slice.endpoints).peekable();
            if endpoints.peek().is_none() {
                Cause::Empty
            } else if endpoints.any(|endpoint| is_ready(endpoint) || still_serves(endpoint)) {
                Cause::LeftOut
            } else {
                Cause::NotReady
            }
        };
        let structural = Self::structural(name, service, port, slices, stray);
        structural.unwrap_or_else(|| Self { service: name.clone(), cause: momentary() })
    }

    /// Whether it may be another one after these changes, though neither the Service nor its own slices are among them.
    pub(in crate::translate) fn may_concern(&self, changes: &Changes) -> bool {
        matches!(self.cause, Cause::NoSlice(_))
            && (changes.unlabelled_slices.contains(&self.service.namespace)
                || changes.endpoints.iter().any(|service| service.name == self.service.name))
    }

    /// Whether it stays until somebody changes something.
    pub fn is_structural(&self) -> bool {
        match self.cause {
            Cause::NoSlice(_) | Cause::Fqdn(_) | Cause::NoPort { .. } => true,
            Cause::Empty | Cause::NotReady | Cause::LeftOut => false,
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, cause } = self;
        match cause {
            Cause::NoSlice(stray) => {
                let (namespace, name) = (word(&service.namespace), word(&service.name));
                write!(
                    f,
                    "Service {service} has no EndpointSlice: none in namespace {namespace} has the label kubernetes.io/service-name: {name}"
                )?;
                match stray {
                    Some(StraySlice::Unlabelled(slice)) => write!(f, "; EndpointSlice {slice} has no such label"),
                    Some(StraySlice::Elsewhere(slice)) => write!(f, "; EndpointSlice {slice} has it, but is in another namespace"),
                    None => Ok(()),
                }
            }
            Cause::Fqdn(slice) => {
                write!(f, "Service {service} has only EndpointSlices of addressType FQDN ({slice}); expected IPv4 or IPv6")
            }
            Cause::NoPort { wanted, seen } => {
                write!(f, "no EndpointSlice of Service {service} has {}; they have ", named(wanted))?;
                match &seen[..] {
                    [] => f.write_str("no port"),
                    seen => f.write_str(&listed(seen)),
                }
            }
            Cause::Empty => write!(f, "Service {service} has no endpoint: its EndpointSlices are empty"),
            Cause::NotReady => write!(f, "no endpoint of Service {service} is ready"),
            Cause::LeftOut => write!(f, "no endpoint of Service {service} has an address that requests may be sent to from here"),
        }
    }
}

fn named(port: &str) -> String {
    if port.is_empty() { "a port without a name".to_owned() } else { format!("a port named {}", word(port)) }
}

fn listed(ports: &[Box<str>]) -> String {
    let more = if ports.len() > MAX_LISTED { " and more" } else { "" };
    ports.iter().take(MAX_LISTED).map(|port| named(port)).collect::<Vec<_>>().join(", ") + more
}

fn is_single(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).is_some_and(|ports| ports.len() == 1)
}

fn object_name(slice: &EndpointSlice) -> ObjectName {
    crate::api::object_name(&slice.metadata)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(extra: Value) -> EndpointSlice {
        let mut slice =
            json!({"metadata": {"namespace": "app", "name": "web-1"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]});
        for (key, value) in extra.as_object().unwrap() {
            slice[key] = value.clone();
        }
        serde_json::from_value(slice).unwrap()
    }

    #[test]
    fn a_sentence_names_what_was_seen() {
        let service: Service =
            serde_json::from_value(json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]}})).unwrap();
        let port = service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].clone();
        let name = ObjectName::new("app", "web");
        let unlabelled = || Some(StraySlice::Unlabelled(ObjectName::new("app", "web-x")));
        let elsewhere = || Some(StraySlice::Elsewhere(ObjectName::new("default", "web-y")));
        let no_slice = "Service app/web has no EndpointSlice: none in namespace app has the label kubernetes.io/service-name: web";
        let http = json!([{"name": "http", "port": 8080}]);
        let many = json!([{"port": 1}, {"name": "a", "port": 1}, {"name": "b", "port": 1}, {"name": "c", "port": 1}]);
        let ready = |ready: bool, terminating: bool| json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": ready, "serving": false, "terminating": terminating}}]);
        type Stray = Option<StraySlice>;
        let cases: [(Vec<EndpointSlice>, Stray, String, bool); 9] = [
            (vec![], None, no_slice.to_owned(), true),
            (vec![], unlabelled(), format!("{no_slice}; EndpointSlice app/web-x has no such label"), true),
            (vec![], elsewhere(), format!("{no_slice}; EndpointSlice default/web-y has it, but is in another namespace"), true),
            (vec![slice(json!({"addressType": "FQDN"}))], None,
                "Service app/web has only EndpointSlices of addressType FQDN (app/web-1); expected IPv4 or IPv6".to_owned(), true),
            (vec![slice(json!({"ports": many}))], None,
                "no EndpointSlice of Service app/web has a port named http; they have a port without a name, a port named a, a port named b and more".to_owned(), true),
            (vec![slice(json!({}))], None, "no EndpointSlice of Service app/web has a port named http; they have no port".to_owned(), true),
            // What the control plane makes for a Service without pods.
            (vec![slice(json!({"endpoints": []}))], None, "Service app/web has no endpoint: its EndpointSlices are empty".to_owned(), false),
            (vec![slice(json!({"ports": http, "endpoints": ready(false, true)}))], None, "no endpoint of Service app/web is ready".to_owned(), false),
            (vec![slice(json!({"ports": http}))], None,
                "no endpoint of Service app/web has an address that requests may be sent to from here".to_owned(), false),
        ];
        for (slices, stray, sentence, structural) in cases {
            let slices: Vec<&EndpointSlice> = slices.iter().collect();
            let gap = Gap::of(&name, &service, &port, &slices, || stray.clone());
            assert_eq!((gap.to_string(), gap.is_structural()), (sentence, structural));
        }
    }
}
