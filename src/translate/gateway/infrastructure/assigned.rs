//! Which internal port stands for a Gateway's port, by all that speaks for it.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::base::ObjectName;
use crate::snapshot::{GatewayPort, Observed, TransportPort};

use super::{
    names::selector_service,
    options::InfrastructureOptions,
    ports::{LedPorts, WantedPort, may_serve},
};

/// What became of the ports of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortState {
    /// To be bound.
    Internal(u16),
    /// The leader has not dealt it out yet.
    NotAllocated,
    /// The allocation gives it to another Gateway too, or a Service leads from there to another: that one keeps it.
    Duplicate {
        /// The port that both ought to have.
        port: u16,
        /// The other Gateway.
        owner: ObjectName,
    },
}

/// What speaks for the internal port of a Gateway's port.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    /// What this process serves on.
    held: Option<u16>,
    /// Where the Gateway's Service leads.
    service: Option<u16>,
    /// What the ConfigMap says.
    table: Option<u16>,
}

/// The state of every wanted port; `wanted` is in the order of age, the oldest Gateway first.
///
/// Normally the ConfigMap, the Services and what this process serves agree. Where one of them was lost or was changed by hand, a Gateway
/// stays where two of them have it, else where clients find it. It gets no port to which a Service of another Gateway leads.
pub fn port_states(wanted: &[WantedPort], observed: &Observed, options: &InfrastructureOptions) -> BTreeMap<GatewayPort, PortState> {
    let led = led_ports(observed);
    let evidence = wanted.iter().map(|wanted| (wanted, Evidence::of(wanted, observed, options)));
    let evidence: Vec<_> = evidence.collect();
    let mut owners: BTreeMap<TransportPort, &ObjectName> = BTreeMap::new();
    let mut states = BTreeMap::new();
    for (wanted, evidence) in &evidence {
        if let Some(port) = evidence.agreed()
            && let Entry::Vacant(free) = owners.entry(wanted.key.port.with_number(port))
        {
            free.insert(&wanted.gateway);
            states.insert(wanted.key.clone(), PortState::Internal(port));
        }
    }
    for (wanted, evidence) in &evidence {
        if states.contains_key(&wanted.key) {
            continue;
        }
        let of_transport = |number: u16| wanted.key.port.with_number(number);
        let owner = |port: u16| {
            let port = of_transport(port);
            owners.get(&port).copied().or_else(|| led.get(&port).filter(|of| **of != wanted.gateway))
        };
        let likely = evidence.likely();
        let state = match (likely.iter().flatten().find(|port| owner(**port).is_none()), likely.iter().flatten().next()) {
            (Some(port), _) => {
                owners.insert(of_transport(*port), &wanted.gateway);
                PortState::Internal(*port)
            }
            (None, Some(port)) => match owner(*port) {
                Some(owner) => PortState::Duplicate { port: *port, owner: owner.clone() },
                None => PortState::NotAllocated,
            },
            (None, None) => PortState::NotAllocated,
        };
        states.insert(wanted.key.clone(), state);
    }
    states
}

/// The internal ports to which Services of ours lead. Where two lead to one port, which they should not, the first by name counts.
pub(super) fn led_ports(observed: &Observed) -> LedPorts {
    let mut led = LedPorts::new();
    for service in observed.services.values() {
        let Some(gateway) = &service.gateway else { continue };
        for (port, internal) in service.ports.iter().filter(|(_, internal)| **internal != 0) {
            led.entry(port.with_number(*internal)).or_insert_with(|| gateway.clone());
        }
    }
    led
}

// === impl PortState ===

impl PortState {
    /// The internal port, where there is one.
    pub fn internal(&self) -> Option<u16> {
        match self {
            Self::Internal(port) => Some(*port),
            Self::NotAllocated | Self::Duplicate { .. } => None,
        }
    }
}

// === impl Evidence ===

impl Evidence {
    fn of(wanted: &WantedPort, observed: &Observed, options: &InfrastructureOptions) -> Self {
        let service = observed.services.get(&selector_service(&wanted.gateway, observed, options));
        let service = service.filter(|service| service.gateway.as_ref() == Some(&wanted.gateway));
        let leads_to = service.and_then(|service| service.ports.get(&wanted.key.port));
        // A port that became one of the pod's own speaks for nothing: the leader deals out another one.
        let usable = |port: Option<&u16>| port.copied().filter(|port| may_serve(*port, &options.reserved_ports));
        Self {
            held: usable(observed.held_ports.get(&wanted.key)),
            service: usable(leads_to),
            table: usable(observed.ports.get(&wanted.key)),
        }
    }

    /// What two of the three say.
    fn agreed(self) -> Option<u16> {
        let Self { held, service, table } = self;
        service.filter(|_| service == held || service == table).or_else(|| held.filter(|_| held == table))
    }

    /// Without such an agreement, the likeliest first. A Service that leads elsewhere than this process serves was changed by hand, and is
    /// about to be mended. Without a Service nobody comes yet, and the ConfigMap says where they will.
    fn likely(self) -> [Option<u16>; 2] {
        match (self.service, self.held) {
            (Some(_), Some(held)) => [Some(held), self.table],
            (Some(service), None) => [Some(service), self.table],
            (None, held) => [self.table, held],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use crate::snapshot::ObservedService;

    use super::*;
    use crate::translate::gateway::infrastructure::{PortTable, allocate};

    fn options() -> InfrastructureOptions {
        InfrastructureOptions { install_namespace: "ns".into(), ..Default::default() }
    }

    fn wanted(name: &str, port: u16) -> WantedPort {
        WantedPort { key: key(name, port), gateway: ObjectName::new("ns", name), assigned: None }
    }

    fn key(name: &str, port: u16) -> GatewayPort {
        GatewayPort { uid: format!("uid-{name}").into(), port: TransportPort::tcp(port) }
    }

    fn ports(all: &[(&str, u16, u16)]) -> BTreeMap<GatewayPort, u16> {
        all.iter().map(|(name, port, internal)| (key(name, *port), *internal)).collect()
    }

    /// The ConfigMap, the Services and what this process serves: Gateway, port, internal port.
    fn observed(table: &[(&str, u16, u16)], services: &[(&str, u16, u16)], held: &[(&str, u16, u16)]) -> Observed {
        let mut observed = Observed { ports: ports(table), held_ports: ports(held), ..Observed::default() };
        for (name, port, internal) in services {
            let gateway = ObjectName::new("ns", *name);
            let service: &mut ObservedService =
                observed.services.entry(selector_service(&gateway, &Observed::default(), &options())).or_default();
            service.gateway = Some(gateway);
            service.ports.insert(TransportPort::tcp(*port), *internal);
        }
        observed
    }

    fn internal(wanted: &[WantedPort], observed: &Observed) -> Vec<Option<u16>> {
        let states = port_states(wanted, observed, &options());
        wanted.iter().map(|wanted| states[&wanted.key].internal()).collect()
    }

    #[test]
    fn of_a_duplicate_the_older_gateway_keeps_the_port() {
        let seen = observed(&[("old", 80, 8080), ("young", 80, 8080)], &[], &[]);
        let mut all = [wanted("old", 80), wanted("young", 80), wanted("new", 81)];
        let states = port_states(&all, &seen, &options());
        assert_eq!(states[&key("old", 80)], PortState::Internal(8080));
        assert_eq!(states[&key("young", 80)], PortState::Duplicate { port: 8080, owner: ObjectName::new("ns", "old") });
        assert_eq!(states[&key("new", 81)], PortState::NotAllocated);
        // The leader heals it.
        for wanted in &mut all {
            wanted.assigned = states[&wanted.key].internal();
        }
        let table = PortTable { taken: seen.ports.into_iter().map(|(key, port)| (key, (port, "".into()))).collect(), ..Default::default() };
        let healed = allocate(&all, &table, &LedPorts::new(), &BTreeSet::new(), 0).ports();
        assert_eq!((healed[&key("old", 80)], healed[&key("young", 80)]), (8080, 10_000));
    }

    #[test]
    fn a_gateway_stays_where_clients_find_it_whatever_was_lost_or_changed() {
        let (a, b) = (("a", 80, 8080), ("b", 80, 10_000));
        let (a_swapped, b_swapped) = (("a", 80, 10_000), ("b", 80, 8080));
        let right: &[_] = &[a, b];
        let swapped: &[_] = &[a_swapped, b_swapped];
        type Ports<'a> = &'a [(&'a str, u16, u16)];
        let cases: [(&str, Ports<'_>, Ports<'_>, Ports<'_>); 13] = [
            ("all agree", right, right, right),
            ("the ConfigMap is gone", &[], right, right),
            ("the ConfigMap is gone, this process is new", &[], right, &[]),
            ("the ConfigMap and the Services are gone", &[], &[], right),
            ("the Services are gone", right, &[], right),
            ("a value cannot be read", &[b], right, right),
            ("a value cannot be read, this process is new", &[b], right, &[]),
            ("the ConfigMap was swapped by hand", swapped, right, right),
            ("the ConfigMap was swapped by hand, this process is new", swapped, right, &[]),
            ("a Service was changed by hand", right, &[a, b_swapped], right),
            ("a Service was changed by hand, this process is new", right, &[a, b_swapped], &[]),
            ("both Services were swapped by hand", right, swapped, right),
            ("this process has it wrong", right, right, swapped),
        ];
        for (case, table, services, held) in cases {
            assert_eq!(
                internal(&[wanted("a", 80), wanted("b", 80)], &observed(table, services, held)),
                [Some(8080), Some(10_000)],
                "{case}"
            );
        }
    }

    #[test]
    fn a_port_that_became_one_of_the_pods_own_is_given_up() {
        let old: &[_] = &[("a", 80, 9_901)];
        assert_eq!(internal(&[wanted("a", 80)], &observed(old, old, old)), [None]);
        assert_eq!(internal(&[wanted("a", 80)], &observed(&[("a", 80, 8080)], old, old)), [Some(8080)]);
    }

    #[test]
    fn nobody_answers_on_a_port_to_which_the_service_of_another_leads() {
        // The table was dealt out anew, oldest first, while the Service of b still leads to 8080.
        let seen = observed(&[("a", 80, 8080)], &[("b", 80, 8080)], &[]);
        let states = port_states(&[wanted("a", 80)], &seen, &options());
        assert_eq!(states[&key("a", 80)], PortState::Duplicate { port: 8080, owner: ObjectName::new("ns", "b") });
        let led = led_ports(&seen);
        let table = PortTable { taken: BTreeMap::from([(key("a", 80), (8080, "ns/a".into()))]), ..Default::default() };
        for table in [PortTable::default(), table] {
            let dealt = allocate(&[wanted("a", 80)], &table, &led, &BTreeSet::new(), 0).ports();
            assert_eq!(dealt[&key("a", 80)], 10_000, "b is not known yet, or is gone and its Service still stands");
        }
    }

    proptest! {
        #[test]
        fn where_the_services_stand_no_table_and_no_memory_moves_a_gateway(
            gateways in 1_usize..6,
            table in prop::collection::vec(prop::option::of(0_u16..6), 6),
            knows in prop::collection::vec(any::<bool>(), 6),
        ) {
            let names: Vec<String> = (0..gateways).map(|number| format!("g{number}")).collect();
            let right: Vec<(&str, u16, u16)> = names.iter().zip(10_000..).map(|(name, port)| (&**name, 80, port)).collect();
            let table: Vec<_> = right.iter().zip(&table).filter_map(|((name, port, _), at)| Some((*name, *port, 10_000 + (*at)?))).collect();
            let held: Vec<_> = right.iter().zip(&knows).filter(|(_, knows)| **knows).map(|(right, _)| *right).collect();
            let seen = observed(&table, &right, &held);
            let mut all: Vec<_> = names.iter().map(|name| wanted(name, 80)).collect();
            let expected: Vec<_> = right.iter().map(|(_, _, internal)| Some(*internal)).collect();
            prop_assert_eq!(&internal(&all, &seen), &expected);
            for (wanted, assigned) in all.iter_mut().zip(&expected) {
                wanted.assigned = *assigned;
            }
            let written = PortTable { taken: ports(&table).into_iter().map(|(key, port)| (key, (port, "".into()))).collect(), ..Default::default() };
            let dealt = allocate(&all, &written, &led_ports(&seen), &BTreeSet::new(), 0);
            prop_assert_eq!(dealt.ports(), ports(&right));
        }
    }
}
