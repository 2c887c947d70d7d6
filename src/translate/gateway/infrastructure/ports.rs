//! Internal ports: which port of the pod belongs to which port of which Gateway.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ObjectName;
use crate::snapshot::{GatewayPort, Transport, TransportPort};

/// Ports that are given out. Below are those that need a privilege, above NodePorts and the ports of outgoing connections.
pub const INTERNAL_PORTS: std::ops::RangeInclusive<u16> = 1_024..=29_999;

/// From here on a port is looked for where neither the declared one nor the one above it by `OFFSET` is free.
const FIRST_SEARCHED: u16 = 10_000;

/// Distance of the second choice, as Gloo's proxies have it: 80 becomes 8080, 443 becomes 8443.
const OFFSET: u16 = 8_000;

/// How keys of the ConfigMap end that are about UDP.
const OF_UDP: &str = ".udp";

/// How long a freed port is not given to another Gateway, seconds: load balancers and clients may still hold it for the old one.
pub const REST_SECONDS: i64 = 600;

/// A port of a Gateway that needs an internal port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPort {
    /// Gateway and port.
    pub key: GatewayPort,
    /// Name of the Gateway.
    pub gateway: ObjectName,
    /// The internal port that stands for it now, whatever the ConfigMap says.
    pub assigned: Option<u16>,
}

/// Internal ports to which Services of ours lead, each with the Gateway of the Service.
pub type LedPorts = BTreeMap<TransportPort, ObjectName>;

/// The allocation, as it is kept in the ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortTable {
    /// Internal port and Gateway by Gateway port.
    pub taken: BTreeMap<GatewayPort, (u16, Box<str>)>,
    /// Ports that rest: when each was freed (seconds since the epoch), and for whom it stood.
    pub freed: BTreeMap<TransportPort, (i64, Box<str>)>,
}

/// The next allocation. Pure: the time is told.
///
/// What is wanted keeps its port; what is not wanted any more frees it; the rest is dealt out in the order of `wanted`. A freed port goes
/// back at once to a Gateway of the name that it stood for, to others after it rested; a port to which a Service leads goes to the Gateway
/// of that Service only. Where no port is left, the Gateway goes without.
pub fn allocate(wanted: &[WantedPort], table: &PortTable, led: &LedPorts, reserved: &BTreeSet<u16>, now: i64) -> PortTable {
    let mut next = PortTable { taken: BTreeMap::new(), freed: table.freed.clone() };
    next.freed.retain(|_, (since, _)| now.saturating_sub(*since) < REST_SECONDS);
    let keys: BTreeSet<&GatewayPort> = wanted.iter().map(|wanted| &wanted.key).collect();
    for (key, (port, gateway)) in &table.taken {
        if !keys.contains(key) {
            next.freed.insert(key.port.with_number(*port), (now, gateway.clone()));
        }
    }
    let mut used = BTreeSet::new();
    // In this order: nobody takes away what another holds. What is in use counts more than what is written down.
    let in_use = |wanted: &WantedPort| wanted.assigned;
    let written = |wanted: &WantedPort| {
        let port = table.taken.get(&wanted.key)?.0;
        (!leads_elsewhere(wanted.key.port.with_number(port), &wanted.gateway, led)).then_some(port)
    };
    for holds in [&in_use as &dyn Fn(&WantedPort) -> Option<u16>, &written] {
        for wanted in wanted {
            if !next.taken.contains_key(&wanted.key)
                && let Some(port) = holds(wanted).filter(|port| may_serve(*port, reserved))
                && used.insert(wanted.key.port.with_number(port))
            {
                next.taken.insert(wanted.key.clone(), (port, owner(wanted)));
            }
        }
    }
    for wanted in wanted {
        if next.taken.contains_key(&wanted.key) {
            continue;
        }
        if let Some(port) = choose(wanted, &used, &next.freed, led, reserved) {
            used.insert(port);
            next.freed.remove(&port);
            next.taken.insert(wanted.key.clone(), (port.number, owner(wanted)));
        }
    }
    next.freed.retain(|port, _| !used.contains(port));
    next
}

fn choose(
    wanted: &WantedPort,
    used: &BTreeSet<TransportPort>,
    freed: &BTreeMap<TransportPort, (i64, Box<str>)>,
    led: &LedPorts,
    reserved: &BTreeSet<u16>,
) -> Option<TransportPort> {
    let owner = owner(wanted);
    let rests =
        |port: &TransportPort| freed.get(port).is_some_and(|(_, last)| *last != owner) || leads_elsewhere(*port, &wanted.gateway, led);
    let declared = wanted.key.port.number;
    let candidates = std::iter::once(declared).chain(declared.checked_add(OFFSET)).chain(FIRST_SEARCHED..=*INTERNAL_PORTS.end());
    let candidates = candidates.into_iter().filter(|port| may_serve(*port, reserved)).map(|port| wanted.key.port.with_number(port));
    candidates.into_iter().find(|port| !used.contains(port) && !rests(port))
}

/// Whether a Service of another Gateway leads to a port: who comes by it must not be answered by this one.
fn leads_elsewhere(port: TransportPort, gateway: &ObjectName, led: &LedPorts) -> bool {
    led.get(&port).is_some_and(|of| of != gateway)
}

/// Whether a port may stand for a Gateway's.
pub(super) fn may_serve(port: u16, reserved: &BTreeSet<u16>) -> bool {
    INTERNAL_PORTS.contains(&port) && !reserved.contains(&port)
}

/// A port as it ends a key of the ConfigMap.
fn written(port: TransportPort) -> String {
    match port.transport {
        Transport::Tcp => port.number.to_string(),
        Transport::Udp => format!("{}{OF_UDP}", port.number),
    }
}

fn owner(wanted: &WantedPort) -> Box<str> {
    wanted.gateway.to_string().into()
}

// === impl PortTable ===

impl PortTable {
    /// Reads the ConfigMap's `data`. What cannot be read is left out: it will be dealt out anew.
    pub fn parse(data: &BTreeMap<String, String>) -> Self {
        let mut table = Self::default();
        for (key, value) in data {
            let (number, owner) = value.split_once(' ').unwrap_or((value, ""));
            let (key, transport) = key.strip_suffix(OF_UDP).map_or((&**key, Transport::Tcp), |key| (key, Transport::Udp));
            let Some((prefix, port)) = key.rsplit_once('.') else { continue };
            let Ok(number_of_port) = port.parse::<u16>() else { continue };
            let port = TransportPort { number: number_of_port, transport };
            if prefix == "freed" {
                if let Ok(since) = number.parse() {
                    table.freed.insert(port, (since, owner.into()));
                }
            } else if let Ok(internal) = number.parse::<u16>() {
                table.taken.insert(GatewayPort { uid: prefix.into(), port }, (internal, owner.into()));
            }
        }
        table
    }

    /// The ConfigMap's `data`: `<uid>.<port>: "<internal port> <gateway>"` and `freed.<internal port>: "<seconds> <gateway>"`. Of UDP the
    /// keys end in `.udp`, which versions that do not serve UDP leave out.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let taken =
            self.taken.iter().map(|(key, (port, gateway))| (format!("{}.{}", key.uid, written(key.port)), format!("{port} {gateway}")));
        let freed = self.freed.iter().map(|(port, (since, gateway))| (format!("freed.{}", written(*port)), format!("{since} {gateway}")));
        taken.chain(freed).collect()
    }

    /// Adds what an earlier table knew and this one has lost: ports that stand for a Gateway, and ports that rest.
    pub fn remember(&mut self, earlier: &Self, now: i64) {
        let mut used: BTreeSet<TransportPort> = self.taken.iter().map(|(key, (port, _))| key.port.with_number(*port)).collect();
        for (key, (port, gateway)) in &earlier.taken {
            let internal = key.port.with_number(*port);
            if !self.taken.contains_key(key) && !self.freed.contains_key(&internal) && used.insert(internal) {
                self.taken.insert(key.clone(), (*port, gateway.clone()));
            }
        }
        for (port, (since, gateway)) in &earlier.freed {
            if now.saturating_sub(*since) < REST_SECONDS && !used.contains(port) {
                self.freed.entry(*port).or_insert_with(|| (*since, gateway.clone()));
            }
        }
    }

    /// The internal ports by Gateway port.
    pub fn ports(&self) -> BTreeMap<GatewayPort, u16> {
        self.taken.iter().map(|(key, (port, _))| (key.clone(), *port)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(name: &str, port: u16) -> WantedPort {
        WantedPort {
            key: GatewayPort { uid: format!("uid-{name}").into(), port: TransportPort::tcp(port) },
            gateway: ObjectName::new("ns", name),
            assigned: None,
        }
    }

    fn of_udp(mut wanted: WantedPort) -> WantedPort {
        wanted.key.port.transport = Transport::Udp;
        wanted
    }

    fn key(name: &str, port: u16) -> GatewayPort {
        wanted(name, port).key
    }

    fn port_of(table: &PortTable, name: &str, port: u16) -> Option<u16> {
        table.taken.get(&key(name, port)).map(|(port, _)| *port)
    }

    #[test]
    fn the_declared_port_then_the_one_above_then_the_next_free() {
        let reserved = BTreeSet::from([9_901, 9_902]);
        // 80 + 8000 belongs to a, and 1901 + 8000 is an admin port: both go on to the search, in order.
        let all = [
            ("a", 8080, 8080),
            ("b", 8080, 16_080),
            ("c", 8080, 10_000),
            ("d", 80, 10_001),
            ("e", 443, 8_443),
            ("f", 9_901, 17_901),
            ("g", 1_901, 1_901),
            ("h", 1_901, 10_002),
            ("i", 30_000, 10_003),
            ("j", 29_999, 29_999),
            ("k", 65_535, 10_004),
        ];
        let mut order: Vec<WantedPort> = all.iter().map(|(name, port, _)| wanted(name, *port)).collect();
        let table = allocate(&order, &PortTable::default(), &LedPorts::new(), &reserved, 0);
        for (name, port, expected) in all {
            assert_eq!(port_of(&table, name, port), Some(expected), "{name} {port}");
        }
        // Another order, the same holders: nothing moves.
        order.reverse();
        assert_eq!(allocate(&order, &table, &LedPorts::new(), &reserved, 1), table);
    }

    #[test]
    fn a_freed_port_rests_for_others_and_not_for_its_own_gateway() {
        let none = BTreeSet::new();
        let held = allocate(&[wanted("a", 8080)], &PortTable::default(), &LedPorts::new(), &none, 1_000);
        let freed = allocate(&[], &held, &LedPorts::new(), &none, 2_000);
        assert_eq!(freed.freed, BTreeMap::from([(TransportPort::tcp(8080), (2_000, "ns/a".into()))]));
        for (name, now, port) in [("b", 2_000, 16_080), ("b", 2_599, 16_080), ("b", 2_600, 8080), ("a", 2_001, 8080)] {
            let table = allocate(&[wanted(name, 8080)], &freed, &LedPorts::new(), &none, now);
            assert_eq!(port_of(&table, name, 8080), Some(port), "{name} at {now}");
            assert_eq!(table.freed.contains_key(&TransportPort::tcp(8080)), port != 8080, "{name} at {now}");
        }
    }

    #[test]
    fn a_port_that_may_not_serve_is_dealt_out_anew() {
        let broken = PortTable {
            taken: BTreeMap::from([(key("a", 80), (9_901, "ns/a".into())), (key("b", 80), (40_000, "ns/b".into()))]),
            ..PortTable::default()
        };
        let table = allocate(&[wanted("a", 80), wanted("b", 80)], &broken, &LedPorts::new(), &BTreeSet::from([9_901]), 0);
        assert_eq!((port_of(&table, "a", 80), port_of(&table, "b", 80)), (Some(8080), Some(10_000)));
    }

    #[test]
    fn the_config_map_holds_the_table_and_forgives_what_it_cannot_read() {
        let table = allocate(
            &[wanted("a", 80), of_udp(wanted("a", 80)), wanted("b", 8080)],
            &PortTable {
                freed: BTreeMap::from([(TransportPort::tcp(9000), (5, "ns/x".into())), (TransportPort::udp(9000), (5, "ns/y".into()))]),
                ..Default::default()
            },
            &LedPorts::new(),
            &BTreeSet::new(),
            6,
        );
        let data = table.to_data();
        assert_eq!((&*data["uid-a.80"], &*data["uid-a.80.udp"]), ("8080 ns/a", "8080 ns/a"), "each transport has ports of its own");
        assert_eq!((&*data["freed.9000"], &*data["freed.9000.udp"]), ("5 ns/x", "5 ns/y"));
        assert_eq!(PortTable::parse(&data), table);
        let odd = [
            ("", ""),
            ("x", "1"),
            ("a.b", "1"),
            ("a.80", "x"),
            ("a.80000", "1"),
            ("freed.1", "y"),
            ("b.81", "9"),
            ("b.udp", "1"),
            (".udp", ""),
        ];
        let odd = odd.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(PortTable::parse(&odd).ports(), BTreeMap::from([(GatewayPort { uid: "b".into(), port: TransportPort::tcp(81) }, 9)]));
    }

    proptest! {
        #[test]
        fn no_port_is_given_twice_and_what_stays_wanted_keeps_its_port(
            steps in prop::collection::vec(prop::collection::btree_set((0_u8..6, prop::sample::select(vec![80_u16, 443, 8080, 2_000, 29_999, 30_000]), any::<bool>()), 0..12), 1..8)
        ) {
            let reserved = BTreeSet::from([9_901, 9_902]);
            let mut table = PortTable::default();
            for (now, step) in steps.into_iter().enumerate() {
                let step: Vec<_> = step
                    .iter()
                    .map(|(name, port, is_udp)| (wanted(&name.to_string(), *port), is_udp))
                    .map(|(wanted, is_udp)| if *is_udp { of_udp(wanted) } else { wanted })
                    .collect();
                let next = allocate(&step, &table, &LedPorts::new(), &reserved, i64::try_from(now).unwrap() * 200);
                let ports: BTreeSet<_> = next.taken.iter().map(|(key, (port, _))| key.port.with_number(*port)).collect();
                prop_assert_eq!(ports.len(), step.len());
                prop_assert!(ports.iter().all(|port| may_serve(port.number, &reserved) && !next.freed.contains_key(port)));
                for wanted in &step {
                    if let Some(before) = table.taken.get(&wanted.key) {
                        prop_assert_eq!(&next.taken[&wanted.key], before);
                    }
                }
                table = next;
            }
        }
    }
}
