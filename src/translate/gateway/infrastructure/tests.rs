use super::*;
use crate::snapshot::{ObservedService, ObservedServiceType, ServiceAddress};

const BIND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

struct Owned {
    name: ObjectName,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    ports: BTreeSet<TransportPort>,
    static_addresses: Vec<IpAddr>,
    overrides: Arc<ServiceOverrides>,
}

fn gateway(namespace: &str, name: &str, ports: &[u16]) -> Owned {
    Owned {
        name: ObjectName::new(namespace, name),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ports: ports.iter().copied().map(TransportPort::tcp).collect(),
        static_addresses: Vec::new(),
        overrides: Arc::default(),
    }
}

fn facts(gateway: &Owned) -> GatewayFacts<'_> {
    GatewayFacts {
        name: &gateway.name,
        uid: &gateway.name.name,
        class: "clingfish",
        class_uid: "class-uid",
        labels: Some(&gateway.labels),
        annotations: Some(&gateway.annotations),
        ports: &gateway.ports,
        static_addresses: &gateway.static_addresses,
        overrides: Some(&gateway.overrides),
    }
}

fn options() -> InfrastructureOptions {
    InfrastructureOptions { install_namespace: "system".into(), ..Default::default() }
}

fn observed(ports: &[(&str, u16, u16, Option<BindState>)]) -> Observed {
    let mut observed = Observed::default();
    for (uid, port, internal, bound) in ports {
        observed.ports.insert(GatewayPort { uid: (*uid).into(), port: TransportPort::tcp(*port) }, *internal);
        if let Some(bound) = bound {
            observed.bound.insert(BindAddress::tcp(SocketAddr::new(BIND, *internal)), bound.clone());
        }
    }
    observed
}

fn failed() -> BindState {
    BindState::Failed("no".into())
}

#[test]
fn a_service_has_the_ports_that_are_bound_and_waits_for_those_that_will_be() {
    let bound = Some(BindState::Bound);
    type Case<'a> = (&'a [u16], &'a [(&'a str, u16, u16, Option<BindState>)], Option<&'a [(u16, u16)]>);
    let cases: [Case<'_>; 7] = [
        (&[80], &[], None),
        (&[80], &[("http", 80, 8080, None)], None),
        (&[80], &[("http", 80, 8080, bound.clone())], Some(&[(80, 8080)])),
        (&[80, 81], &[("http", 80, 8080, bound.clone())], None),
        (&[80, 81], &[("http", 80, 8080, bound), ("http", 81, 8081, Some(failed()))], Some(&[(80, 8080)])),
        (&[80], &[("http", 80, 8080, Some(failed()))], None),
        (&[], &[], None),
    ];
    for (ports, seen, expected) in cases {
        let http = gateway("system", "http", ports);
        let result = desired([facts(&http)], BIND, &observed(seen), &options());
        let services: Vec<_> = result.services.values().map(|service| service.ports.clone()).collect();
        match expected {
            Some(expected) => assert_eq!(
                services,
                [expected.iter().map(|(port, internal)| (TransportPort::tcp(*port), *internal)).collect::<BTreeMap<_, _>>()],
                "{ports:?} {seen:?}"
            ),
            None => {
                assert_eq!(services, [], "{ports:?} {seen:?}");
                assert_eq!(result.pending, BTreeSet::from([http.name.clone()]));
            }
        }
        assert_eq!(result.ports.len(), ports.len());
    }
}

#[test]
fn gateways_that_share_a_port_have_services_of_their_own() {
    let (old, young) = (gateway("system", "old", &[80]), gateway("team", "young", &[80]));
    let seen = observed(&[("old", 80, 8080, Some(BindState::Bound)), ("young", 80, 10_000, Some(BindState::Bound))]);
    let result = desired([facts(&old), facts(&young)], BIND, &seen, &options());
    let targets: Vec<_> =
        result.services.iter().map(|(name, service)| (name.to_string(), service.ports[&TransportPort::tcp(80)])).collect();
    let real = names::selector_service(&young.name, &Observed::default(), &options());
    assert_eq!(targets, [("system/clingfish-old".into(), 8080), (real.to_string(), 10_000), ("team/clingfish-young".into(), 10_000)]);
    let neighbour = &result.services[&ObjectName::new("team", "clingfish-young")];
    assert_eq!(
        neighbour.target,
        ServiceTarget::Name {
            name: format!("{}.system.svc.cluster.local", real.name),
            class: "clingfish".into(),
            class_uid: "class-uid".into()
        }
    );
}

#[test]
fn a_duplicate_internal_port_is_the_older_gateways() {
    let (old, young) = (gateway("system", "old", &[80]), gateway("system", "young", &[80, 81]));
    let bound = Some(BindState::Bound);
    let seen = observed(&[("old", 80, 8080, bound.clone()), ("young", 80, 8080, bound.clone()), ("young", 81, 8081, bound)]);
    let result = desired([facts(&old), facts(&young)], BIND, &seen, &options());
    assert_eq!(result.services[&ObjectName::new("system", "clingfish-old")].ports, BTreeMap::from([(TransportPort::tcp(80), 8080)]));
    assert_eq!(result.services[&ObjectName::new("system", "clingfish-young")].ports, BTreeMap::from([(TransportPort::tcp(81), 8081)]));
}

#[test]
fn labels_and_annotations_are_propagated_and_ours_win() {
    let mut team = gateway("team", "http", &[80]);
    team.labels = BTreeMap::from([("tier".into(), "edge".into()), (GATEWAY_NAME_LABEL.into(), "stolen".into())]);
    team.annotations =
        BTreeMap::from([("owner".into(), "team".into()), ("lb".into(), "mine".into()), (INSTALL_ANNOTATION.into(), "x".into())]);
    let published = ["external-dns.alpha.kubernetes.io/hostname", "external-dns.kubernetes.io/hostname"];
    team.annotations.extend(published.map(|name| (name.into(), "shop.example".into())));
    let options = InfrastructureOptions {
        annotations: BTreeMap::from([("lb".into(), "chart".into()), ("nlb".into(), "yes".into())]),
        labels: BTreeMap::from([("tier".into(), "chart".into()), ("cost".into(), "7".into())]),
        ..options()
    };
    let result = desired([facts(&team)], BIND, &observed(&[("http", 80, 8080, Some(BindState::Bound))]), &options);
    assert_eq!(result.services.len(), 2);
    for service in result.services.values() {
        let of_chart = matches!(service.target, ServiceTarget::Pods { .. });
        for name in published {
            assert_eq!(service.annotations.contains_key(name), of_chart, "{name}: the name of an ExternalName is for the cluster only");
        }
        assert_eq!(service.labels["tier"], "edge");
        assert_eq!(service.labels[GATEWAY_NAME_LABEL], "http");
        assert_eq!((&*service.annotations["owner"], &*service.annotations["lb"]), ("team", "mine"));
        assert_eq!((service.annotations.contains_key("nlb"), service.labels.contains_key("cost")), (of_chart, of_chart));
        assert_eq!(service.annotations[INSTALL_ANNOTATION], "system/clingfish");
        assert_eq!(service.annotations[GATEWAY_ANNOTATION], "team/http");
    }
}

#[test]
fn a_label_holds_the_longest_gateway_name() {
    assert_eq!(label_value("http"), "http");
    let long = label_value(&"a.".repeat(126));
    assert!(long.len() <= 63 && long.starts_with("a.a.") && !long.ends_with('.'), "{long}");
    assert_ne!(long, label_value(&"a.".repeat(125)));
}

#[test]
fn the_address_is_what_the_service_reports() {
    let name = ObjectName::new("team", "http");
    let options = options();
    let real = names::selector_service(&name, &Observed::default(), &options);
    let neighbour = ObjectName::new("team", "clingfish-http");
    let ip = |text: &str| ServiceAddress::Ip(text.parse().unwrap());
    let ours = |addresses: Vec<ServiceAddress>| ObservedService {
        gateway: Some(name.clone()),
        addresses,
        ports: BTreeMap::from([(TransportPort::tcp(80), 8080)]),
        ..ObservedService::default()
    };
    let with = |services: Vec<(&ObjectName, ObservedService)>| Observed {
        services: services.into_iter().map(|(name, service)| (name.clone(), service)).collect(),
        ..Default::default()
    };
    let problem = |observed: &Observed, wanted: &[IpAddr]| {
        let problem = addresses(&name, wanted, observed, &ServiceOverrides::default(), &options).unwrap_err();
        (problem.reason, problem.message)
    };

    let (reason, message) = problem(&with(vec![]), &[]);
    assert_eq!((reason, message.as_str()), ("Pending", &*format!("Service {real} is not made yet")));
    let (reason, message) = problem(&with(vec![(&real, ours(vec![]))]), &[]);
    assert!(reason == "AddressNotAssigned" && message.contains("load balancer has not given"), "{message}");
    assert!(is_on_its_way(reason, &message), "nobody is warned of it");

    let both = vec![ip("10.0.0.1"), ServiceAddress::Hostname("lb.example".into())];
    let found = addresses(&name, &[], &with(vec![(&real, ours(both.clone()))]), &ServiceOverrides::default(), &options);
    assert_eq!(found, Ok(Reached { addresses: both.clone(), asides: Vec::new() }));

    type Case<'a> = (&'a [&'a str], Vec<ServiceAddress>, Result<Vec<ServiceAddress>, &'a str>);
    let cases: [Case<'_>; 4] = [
        (&["10.0.0.1"], both.clone(), Ok(vec![ip("10.0.0.1")])),
        (&["10.0.0.2"], both.clone(), Err("AddressNotUsable")),
        (&["10.0.0.2", "10.0.0.1"], both.clone(), Err("AddressNotUsable")),
        (&["10.0.0.1"], vec![], Err("AddressNotUsable")),
    ];
    for (wanted, has, expected) in cases {
        let seen = with(vec![(&real, ours(has))]);
        let asked: Vec<IpAddr> = wanted.iter().map(|ip| ip.parse().unwrap()).collect();
        let found = addresses(&name, &asked, &seen, &ServiceOverrides::default(), &options)
            .map(|reached| reached.addresses)
            .map_err(|problem| problem.reason);
        assert_eq!(found, expected, "{wanted:?}");
    }

    let refused = |name: &ObjectName| Observed {
        refused_services: BTreeMap::from([(name.clone(), "exceeded quota: services".into())]),
        ..with(vec![(&real, ours(both.clone()))])
    };
    for name in [&real, &neighbour] {
        let (reason, message) = problem(&refused(name), &[]);
        assert_eq!(
            (reason, message),
            ("AddressNotAssigned", format!("Service {name} could not be written: exceeded quota: services; it is tried again"))
        );
    }
    assert!(addresses(&name, &[], &refused(&ObjectName::new("team", "clingfish-other")), &ServiceOverrides::default(), &options).is_ok());

    let deleting = ObservedService { deleting: true, ..ours(both.clone()) };
    let (reason, message) = problem(&with(vec![(&real, deleting)]), &[]);
    assert!(reason == "AddressNotAssigned" && message.contains("is being deleted"), "{message}");
    assert!(!is_on_its_way(reason, &message), "its address is lost");

    let foreign = || ObservedService { addresses: both.clone(), ..Default::default() };
    for seen in [with(vec![(&real, foreign())]), with(vec![(&real, ours(both.clone())), (&neighbour, foreign())])] {
        let (reason, message) = problem(&seen, &[]);
        assert!(reason == "AddressNotAssigned" && message.contains("was not made by system/clingfish"), "{message}");
        assert!(!is_on_its_way(reason, &message), "somebody has to do something");
    }
}

#[test]
fn a_load_balancer_that_keeps_another_class_says_what_to_do() {
    let name = ObjectName::new("system", "http");
    let seen = |class: Option<&str>, class_is_ours| {
        let service = ObservedService {
            gateway: Some(name.clone()),
            addresses: vec![ServiceAddress::Ip("10.0.0.1".parse().unwrap())],
            service_type: ObservedServiceType::LoadBalancer,
            load_balancer_class: class.map(Into::into),
            class_is_ours,
            ..ObservedService::default()
        };
        let service_name = names::selector_service(&name, &Observed::default(), &options());
        Observed { services: BTreeMap::from([(service_name, service)]), ..Observed::default() }
    };
    let wanted = |class: Option<&str>| InfrastructureOptions { load_balancer_class: class.map(Into::into), ..options() };
    for (standing, ours, wanted, expected) in [
        (Some("a"), true, wanted(Some("a")), None),
        (Some("a"), true, wanted(Some("b")), Some("it has a and ought to have b")),
        (None, false, wanted(Some("b")), Some("it has no class and ought to have b")),
        (Some("a"), true, wanted(None), Some("it has a and ought to have no class")),
        (Some("a"), false, wanted(None), None),
        (Some("a"), true, InfrastructureOptions { service_type: ServiceType::ClusterIP, ..wanted(Some("b")) }, None),
    ] {
        let reached = addresses(&name, &[], &seen(standing, ours), &ServiceOverrides::default(), &wanted).unwrap();
        assert_eq!(reached.addresses.len(), 1, "it is reached all the same");
        match expected {
            None => assert!(reached.asides.is_empty(), "{:?}", reached.asides),
            Some(words) => assert!(reached.asides[0].contains(words) && reached.asides[0].contains("delete the Service"), "{reached:?}"),
        }
    }
}

#[test]
fn a_change_that_the_api_server_lets_nobody_make_is_told_with_what_to_do() {
    let name = ObjectName::new("system", "http");
    for (why, advises) in [("spec.loadBalancerClass: Invalid value: may not change once set", true), ("exceeded quota", false)] {
        let service = names::selector_service(&name, &Observed::default(), &options());
        let observed = Observed { refused_services: BTreeMap::from([(service, why.into())]), ..Observed::default() };
        let problem = addresses(&name, &[], &observed, &ServiceOverrides::default(), &options()).unwrap_err();
        assert_eq!(problem.message.contains("delete the Service"), advises, "{}", problem.message);
    }
}

#[test]
fn a_node_port_is_reached_at_the_nodes_where_they_are_known() {
    let name = ObjectName::new("system", "http");
    let ip = |text: &str| ServiceAddress::Ip(text.parse().unwrap());
    let options = InfrastructureOptions { service_type: ServiceType::NodePort, ..options() };
    let observed = |service_type, nodes: &[&str]| {
        let service = ObservedService { gateway: Some(name.clone()), addresses: vec![ip("10.96.0.1")], service_type, ..Default::default() };
        let node_addresses = nodes.iter().map(|node| node.parse().unwrap()).collect();
        let services = BTreeMap::from([(names::selector_service(&name, &Observed::default(), &options), service)]);
        Observed { services, node_addresses, ..Observed::default() }
    };
    for (service_type, nodes, expected) in [
        (ObservedServiceType::NodePort, &["10.0.0.1", "10.0.0.2"][..], vec![ip("10.0.0.1"), ip("10.0.0.2")]),
        (ObservedServiceType::NodePort, &[], vec![ip("10.96.0.1")]),
        (ObservedServiceType::ClusterIP, &["10.0.0.1"], vec![ip("10.96.0.1")]),
    ] {
        assert_eq!(
            addresses(&name, &[], &observed(service_type, nodes), &ServiceOverrides::default(), &options).unwrap().addresses,
            expected,
            "{nodes:?}"
        );
    }
}

#[test]
fn a_gateway_whose_parameters_cannot_be_used_keeps_its_services_as_they_are() {
    let http = gateway("system", "http", &[80]);
    let seen = observed(&[("http", 80, 8080, Some(BindState::Bound))]);
    let unusable = GatewayFacts { overrides: None, ..facts(&http) };
    let result = desired([unusable], BIND, &seen, &options());
    assert_eq!((result.services.len(), result.pending), (0, BTreeSet::from([http.name.clone()])));
    assert_eq!(result.ports.len(), 1, "its ports serve on");
    assert_eq!(desired([facts(&http)], BIND, &seen, &options()).services.len(), 1);
}
