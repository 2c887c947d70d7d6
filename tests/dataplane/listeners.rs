//! Sockets come and go with the configuration.

use std::net::{SocketAddr, TcpListener, TcpStream};

use clingfish::{
    proxy::ProxyConfig,
    snapshot::{BindAddress, BindState},
};

use crate::support::{Client, Upstream, World, eventually};

fn on(upstream: &Upstream, binds: &[&str]) -> World {
    World { binds: binds.iter().map(|bind| bind.parse().unwrap()).collect(), ..World::to(&[upstream.address]) }
}

#[test]
fn listeners_are_added_and_removed_while_running() {
    let upstream = Upstream::echo("ok");
    let proxy = on(&upstream, &["127.0.0.1:0"]).start_with(ProxyConfig { workers: 2, ..ProxyConfig::default() });
    let mut kept = proxy.client();
    assert_eq!(kept.get("/").status, 200);
    proxy.apply(&on(&upstream, &["127.0.0.1:0", "127.0.0.2:0"]));
    let added = proxy.address_of("127.0.0.2:0".parse().unwrap());
    let mut client = Client::connect(added);
    assert_eq!(client.get("/").status, 200);
    proxy.apply(&on(&upstream, &["127.0.0.1:0"]));
    eventually("the removed listener to close", || TcpStream::connect(added).is_err());
    let gone = client.get("/");
    assert_eq!((gone.status, gone.header("connection")), (404, Some("close")), "its connections have no listener any more");
    assert!(client.is_closed());
    assert_eq!(kept.get("/").status, 200, "the other listener was never touched");
}

#[test]
fn every_connection_that_was_confirmed_is_served_when_a_listener_goes() {
    let upstream = Upstream::echo("ok");
    let proxy = on(&upstream, &["127.0.0.1:0", "127.0.0.2:0"]).start_with(ProxyConfig { workers: 2, ..ProxyConfig::default() });
    let address = proxy.address_of("127.0.0.2:0".parse().unwrap());
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(address)).collect();
    proxy.publish(&on(&upstream, &["127.0.0.1:0"]));
    for client in &mut clients {
        // Served before the change or after it, but never reset.
        assert!(matches!(client.get("/").status, 200 | 404));
    }
}

#[test]
fn a_port_that_another_process_holds_fails_and_is_tried_again() {
    let upstream = Upstream::echo("ok");
    let holder = TcpListener::bind("127.0.0.3:0").unwrap();
    let taken: SocketAddr = holder.local_addr().unwrap();
    let config = ProxyConfig { workers: 2, idle_tick: std::time::Duration::from_millis(20), ..ProxyConfig::default() };
    let proxy = on(&upstream, &["127.0.0.1:0", &taken.to_string()]).start_with(config);
    let bound = proxy.running.bound();
    assert!(matches!(bound.borrow().state(BindAddress::tcp(taken)), Some(BindState::Failed(reason)) if reason.contains("in use")));
    assert_eq!(proxy.client().get("/").status, 200, "the others serve");
    drop(holder);
    eventually("the port to be taken over", || bound.borrow().state(BindAddress::tcp(taken)) == Some(BindState::Bound));
    assert_eq!(Client::connect(taken).get("/").status, 200);
}

#[test]
fn all_workers_accept() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(ProxyConfig { workers: 4, ..ProxyConfig::default() });
    let mut clients: Vec<_> = (0..100).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    // One upstream connection for each worker that served, since none was needed by two at once.
    assert_eq!(upstream.connections(), 4);
}

#[test]
fn a_listener_that_comes_back_is_the_same_to_its_clients() {
    let upstream = Upstream::echo("ok");
    let fixed = TcpListener::bind("127.0.0.4:0").unwrap().local_addr().unwrap().to_string();
    let with = on(&upstream, &["127.0.0.1:0", &fixed]);
    let without = on(&upstream, &["127.0.0.1:0"]);
    let proxy = with.start_with(ProxyConfig { workers: 3, ..ProxyConfig::default() });
    for _ in 0..50 {
        proxy.publish(&without);
        proxy.publish(&with);
    }
    proxy.apply(&with);
    let bound = proxy.running.bound();
    eventually("the listener to be back", || bound.borrow().state(BindAddress::tcp(fixed.parse().unwrap())) == Some(BindState::Bound));
    assert_eq!(Client::connect(fixed.parse().unwrap()).get("/").status, 200);
}
