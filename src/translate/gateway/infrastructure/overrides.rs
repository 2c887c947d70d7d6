//! What a Gateway's own parameters say of its Service, in the place of the chart's values.

use std::{borrow::Cow, collections::BTreeMap};

use ipnet::IpNet;

use super::options::{ExternalTrafficPolicy, InfrastructureOptions, ServiceType};

/// Values of a Gateway's own; `None` and what is empty: the chart's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceOverrides {
    /// Type of the Service.
    pub service_type: Option<ServiceType>,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Labels beside the chart's.
    pub labels: BTreeMap<String, String>,
    /// Annotations beside the chart's.
    pub annotations: BTreeMap<String, String>,
    /// `spec.loadBalancerClass`.
    pub load_balancer_class: Option<Box<str>>,
    /// `spec.loadBalancerSourceRanges`.
    pub load_balancer_source_ranges: Option<Vec<IpNet>>,
    /// `spec.allocateLoadBalancerNodePorts`.
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// Ports of the nodes, by port of the Gateway.
    pub node_ports: BTreeMap<u16, u16>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
}

// === impl ServiceOverrides ===

impl ServiceOverrides {
    /// The chart's values with these in their place.
    pub fn over<'a>(&self, chart: &'a InfrastructureOptions) -> Cow<'a, InfrastructureOptions> {
        if *self == Self::default() {
            return Cow::Borrowed(chart);
        }
        let mut options = chart.clone();
        options.service_type = self.service_type.unwrap_or(chart.service_type);
        options.external_traffic_policy = self.external_traffic_policy.unwrap_or(chart.external_traffic_policy);
        options.labels.extend(self.labels.clone());
        options.annotations.extend(self.annotations.clone());
        if let Some(class) = &self.load_balancer_class {
            options.load_balancer_class = Some(class.clone());
        }
        if let Some(ranges) = &self.load_balancer_source_ranges {
            options.load_balancer_source_ranges.clone_from(ranges);
        }
        options.allocate_load_balancer_node_ports = self.allocate_load_balancer_node_ports.or(chart.allocate_load_balancer_node_ports);
        Cow::Owned(options)
    }
}
