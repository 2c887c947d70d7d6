//! Addresses of nodes, where Services of type NodePort are reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_json::Value;

/// Most addresses in the status of a Gateway (its CRD's `maxItems`).
const MOST: usize = 16;

/// The nodes that were seen.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    by_name: BTreeMap<Box<str>, Node>,
    /// Names in the list that is being read.
    listed: BTreeSet<Box<str>>,
}

/// What counts of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    is_ready: bool,
    internal: Vec<IpAddr>,
    external: Vec<IpAddr>,
}

// === impl Nodes ===

impl Nodes {
    /// A list begins.
    pub(super) fn begin_list(&mut self) {
        self.listed.clear();
    }

    /// The list is complete: who was not in it is gone.
    pub(super) fn end_list(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        self.by_name.retain(|name, _| listed.contains(name));
    }

    /// A node as it is.
    pub(super) fn see(&mut self, name: &str, node: &Value) {
        self.listed.insert(name.into());
        self.by_name.insert(name.into(), Node::of(node));
    }

    /// A node is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// The addresses of the nodes that are ready, in order: external ones if any node has one, else internal ones.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let ready = || self.by_name.values().filter(|node| node.is_ready);
        let external: BTreeSet<IpAddr> = ready().flat_map(|node| &node.external).copied().collect();
        let addresses = if external.is_empty() { ready().flat_map(|node| &node.internal).copied().collect() } else { external };
        addresses.into_iter().take(MOST).collect()
    }
}

// === impl Node ===

impl Node {
    fn of(node: &Value) -> Self {
        let list = |pointer: &str| node.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let text = |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let ips = |kind: &str| {
            let of_kind = list("/status/addresses").iter().filter(|address| text(address, "type") == kind);
            of_kind.filter_map(|address| text(address, "address").parse().ok()).collect()
        };
        let is_ready = list("/status/conditions").iter().any(|of| text(of, "type") == "Ready" && text(of, "status") == "True");
        Self { is_ready, internal: ips("InternalIP"), external: ips("ExternalIP") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(ready: &str, addresses: &[(&str, &str)]) -> Value {
        let addresses: Vec<_> = addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
        json!({"status": {"conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": ready}], "addresses": addresses}})
    }

    fn addresses(nodes: &[Value]) -> Vec<String> {
        let mut seen = Nodes::default();
        nodes.iter().enumerate().for_each(|(number, node)| seen.see(&format!("n{number}"), node));
        seen.addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ready_nodes_are_told_by_their_external_addresses_else_by_the_internal_ones() {
        let internal = node("True", &[("InternalIP", "10.0.0.1"), ("Hostname", "one"), ("InternalIP", "fd00::1")]);
        let both = node("True", &[("InternalIP", "10.0.0.2"), ("ExternalIP", "192.0.2.2")]);
        let (gone, unknown) = (node("False", &[("InternalIP", "10.0.0.3")]), node("Unknown", &[("ExternalIP", "192.0.2.4")]));
        assert_eq!(addresses(std::slice::from_ref(&internal)), ["10.0.0.1", "fd00::1"]);
        assert_eq!(addresses(&[internal.clone(), both]), ["192.0.2.2"]);
        assert_eq!(addresses(&[internal, gone, unknown]), ["10.0.0.1", "fd00::1"]);
        assert!(addresses(&[json!({}), json!({"status": {"addresses": [{"type": "InternalIP", "address": "x"}]}})]).is_empty());
    }

    #[test]
    fn there_are_never_more_than_a_status_may_have() {
        let nodes: Vec<_> = (0..40).map(|number| node("True", &[("InternalIP", &format!("10.0.0.{number}"))])).collect();
        assert_eq!(addresses(&nodes).len(), 16);
    }

    #[test]
    fn a_node_that_a_new_list_lacks_is_gone() {
        let mut nodes = Nodes::default();
        for number in 1..=3 {
            nodes.see(&format!("n{number}"), &node("True", &[("InternalIP", &format!("10.0.0.{number}"))]));
        }
        nodes.forget("n3");
        nodes.begin_list();
        nodes.see("n2", &node("True", &[("InternalIP", "10.0.0.2")]));
        assert_eq!(nodes.addresses().len(), 2);
        nodes.end_list();
        assert_eq!(nodes.addresses(), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    }
}
