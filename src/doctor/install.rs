//! An install, as its Deployment says.

use serde::Deserialize;
use serde_json::Value;

use crate::translate::CONTROLLER_NAME;

use super::objects::{list, mark, members, text};

/// What a Deployment says of the install that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Install {
    /// Namespace of the Deployment.
    pub namespace: String,
    /// Name of the Deployment.
    pub deployment: String,
    /// Name of the Lease and of the ConfigMap of ports.
    pub instance: String,
    /// spec.controllerName of its classes.
    pub controller_name: String,
    /// Whether it goes by Gloo's names.
    pub gloo: bool,
    /// Service account of its pods.
    pub service_account: String,
    /// Whether it writes ExternalName Services into other namespaces.
    pub external_names: bool,
    /// Whether it gives GatewayClasses that are used a finalizer.
    pub class_finalizer: bool,
    /// Whether its Gateways report the addresses of nodes.
    pub node_addresses: bool,
    /// Namespaces whose Secrets it may list and watch.
    pub secret_namespaces: Vec<String>,
    /// Labels that its pods have.
    pub selector: Vec<(String, String)>,
    /// The port of its pods that has metrics.
    pub metrics_port: u16,
}

/// The port of the pods that has metrics, where the Deployment does not name one.
const METRICS_PORT: u16 = 9901;

/// The installs among Deployments: those with a container that is told the name of an install.
pub fn installs(deployments: &[Value]) -> Vec<Install> {
    deployments.iter().filter_map(Install::of).collect()
}

// === impl Install ===

impl Install {
    fn of(deployment: &Value) -> Option<Self> {
        let containers = list(deployment, "/spec/template/spec/containers");
        let container = containers.iter().find(|container| variable(container, "CLINGFISH_INSTANCE_NAME").is_some())?;
        let value = |name: &str| variable(container, name).unwrap_or_default();
        let or = |value: &str, default: &str| if value.is_empty() { default.to_owned() } else { value.to_owned() };
        let port = list(container, "/ports").iter().find(|port| text(port, "/name") == "metrics");
        let port = port.and_then(|port| u16::try_from(port.pointer("/containerPort")?.as_u64()?).ok());
        Some(Self {
            namespace: text(deployment, "/metadata/namespace").to_owned(),
            deployment: text(deployment, "/metadata/name").to_owned(),
            instance: value("CLINGFISH_INSTANCE_NAME").to_owned(),
            controller_name: or(value("CLINGFISH_CONTROLLER_NAME"), CONTROLLER_NAME),
            gloo: value("CLINGFISH_GLOO") == "true",
            service_account: or(text(deployment, "/spec/template/spec/serviceAccountName"), "default"),
            external_names: value("CLINGFISH_EXTRA_SERVICES") != "false",
            class_finalizer: value("CLINGFISH_CLASS_FINALIZER") != "false",
            node_addresses: value("CLINGFISH_NODE_ADDRESSES") == "true",
            secret_namespaces: value("CLINGFISH_SECRET_NAMESPACES").split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            selector: members(deployment, "/spec/selector/matchLabels")
                .filter_map(|(key, value)| Some((key.to_owned(), value.as_str()?.to_owned())))
                .collect(),
            metrics_port: port.unwrap_or(METRICS_PORT),
        })
    }

    /// The selector as the API server takes it.
    pub fn label_selector(&self) -> String {
        self.selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    /// Whether a pod of its namespace is one of its own.
    pub fn has_pod(&self, pod: &Value) -> bool {
        self.selector.iter().all(|(key, value)| mark(pod, "labels", key) == Some(value)) && !self.selector.is_empty()
    }
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    list(container, "/env").iter().find(|entry| text(entry, "/name") == name).map(|entry| text(entry, "/value"))
}
