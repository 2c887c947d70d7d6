//! Figures of the load balancing layer: time to build tables, time of a choice. `cargo bench --bench lb`
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints, and ends when its own input is wrong")]

use std::hint::black_box;
use std::time::Duration;

use clingfish::lb::{
    Admits, Balancer, BalancerConfig, HashAccumulator, HashSplit, LbHost, MaglevConfig, Policy, RingConfig, WeightedSplit,
    generated_cookie_value, source_ip_hash, xxh64,
};
use tokio::time::Instant;

/// How long each figure is measured, at least.
const MEASURED: Duration = Duration::from_millis(300);

fn main() {
    println!("table build (median)                    hosts      time");
    for (name, config) in hash_configs() {
        for count in [3, 50, 1000, 5000] {
            let hosts = hosts(count, |_| 1);
            report_build(name, count, || Balancer::build(&hosts, &config).expect("a valid configuration"));
        }
    }
    for (name, config) in hash_configs() {
        for count in [1000, 5000] {
            let hosts = hosts(count, |n| n as u32 % 100 + 1);
            let name = format!("{name}, weights 1-100");
            report_build(&name, count, || Balancer::build(&hosts, &config).expect("a valid configuration"));
        }
    }
    let large = RingConfig { minimum_ring_size: 1 << 20, ..RingConfig::default() };
    let large = BalancerConfig { policy: Policy::RingHash(large), ..BalancerConfig::default() };
    for count in [50, 5000] {
        let hosts = hosts(count, |_| 1);
        report_build("ring of 1,048,576", count, || Balancer::build(&hosts, &large).expect("a valid configuration"));
    }
    for (name, config) in hash_configs() {
        let hosts = partly_warm(5000);
        report_build(&format!("{name}, one warms up"), 5000, || Balancer::build(&hosts, &config).expect("a valid configuration"));
    }
    let weighted = hosts(1000, |n| n as u32 % 100 + 1);
    let round_robin = BalancerConfig::default();
    report_build("round robin, weights 1-100", 1000, || Balancer::build(&weighted, &round_robin).expect("a valid configuration"));
    remapped();
    choices();
    hashes();
}

fn hash_configs() -> [(&'static str, BalancerConfig); 2] {
    let config = |policy| BalancerConfig { policy, ..BalancerConfig::default() };
    [("ring default", config(Policy::RingHash(RingConfig::default()))), ("maglev default", config(Policy::Maglev(MaglevConfig::default())))]
}

fn hosts(count: usize, weight: impl Fn(usize) -> u32) -> Vec<LbHost> {
    (0..count).map(|n| LbHost { weight: weight(n), ..LbHost::new(format!("10.244.{}.{}:8080", n / 250, n % 250 + 1)) }).collect()
}

/// Hosts of which one is a vacant slot and one warms up.
fn partly_warm(count: usize) -> Vec<LbHost> {
    let mut hosts = hosts(count, |_| 1);
    for (host, admits) in hosts.iter_mut().zip([Admits::None, Admits::Part(20_000)]) {
        host.admits = admits;
    }
    hosts
}

/// The median time of a call.
fn median<T>(mut call: impl FnMut() -> T) -> Duration {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < MEASURED || times.len() < 5 {
        let call_start = Instant::now();
        black_box(call());
        times.push(call_start.elapsed());
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The mean time of a call that is too short to be measured alone, in nanoseconds.
fn nanoseconds<T>(mut call: impl FnMut(u64) -> T) -> f64 {
    let (start, mut calls) = (Instant::now(), 0_u64);
    while start.elapsed() < MEASURED {
        for _ in 0..1000 {
            // An odd multiplier: every hash is another one.
            black_box(call(black_box(calls.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
            calls += 1;
        }
    }
    start.elapsed().as_nanos() as f64 / calls as f64
}

fn report_build(name: &str, count: usize, build: impl FnMut() -> Balancer) {
    println!("{name:<38} {count:>6} {:>9.3} ms", median(build).as_secs_f64() * 1e3);
}

fn remapped() {
    for (name, config) in hash_configs() {
        let hosts = hosts(1000, |_| 1);
        let before = Balancer::build(hosts.get(1..).unwrap_or_default(), &config).expect("a valid configuration");
        let after = Balancer::build(&hosts, &config).expect("a valid configuration");
        let key = |shift: usize| {
            let hosts = &hosts;
            move |host: u32| hosts.get(host as usize + shift).map(|host| &*host.key)
        };
        let time = median(|| before.remapped(&after, key(1), key(0)));
        println!("{:<38} {:>6} {:>9.3} ms", format!("remapped keys, {name}"), 1000, time.as_secs_f64() * 1e3);
    }
}

fn choices() {
    println!("\nchoice (mean)                           hosts      time");
    let report = |name: &str, count: usize, time: f64| println!("{name:<38} {count:>6} {time:>9.1} ns");
    for count in [3, 50, 1000] {
        let hosts = hosts(count, |_| 1);
        for (name, config) in hash_configs() {
            let balancer = Balancer::build(&hosts, &config).expect("a valid configuration");
            report(name, count, nanoseconds(|hash| balancer.choose_by_hash(hash, 0)));
            report(&format!("{name}, sequence of 3"), count, nanoseconds(|hash| balancer.sequence(hash, 3)));
        }
        for (name, policy) in [
            ("round robin", Policy::RoundRobin),
            ("random", Policy::Random),
            ("least request of 2", Policy::LeastRequest { choice_count: 2 }),
        ] {
            let config = BalancerConfig { policy, ..BalancerConfig::default() };
            let balancer = Balancer::build(&hosts, &config).expect("a valid configuration");
            report(name, count, nanoseconds(|random| balancer.choose(random, random, |host| host as u32)));
        }
    }
    for (name, config) in hash_configs() {
        let balancer = Balancer::build(&partly_warm(3), &config).expect("a valid configuration");
        report(&format!("{name}, one warms up"), 3, nanoseconds(|hash| balancer.choose_by_hash(hash, 0)));
    }
    let split = WeightedSplit::new(&[30, 50, 20]);
    report("weighted split", 3, nanoseconds(|random| split.pick(random)));
    let split = HashSplit::new(&[("shop/v1:80", 30), ("shop/v2:80", 50), ("shop/v3:80", 20)]);
    report("split of keys", 3, nanoseconds(|hash| split.pick(hash)));
}

fn hashes() {
    println!("\nhash (mean)                                        time");
    let report = |name: &str, time: f64| println!("{name:<45} {time:>9.1} ns");
    let cookie = b"298b1ac340fdea97";
    report("xxh64 of 16 bytes", nanoseconds(|seed| xxh64(cookie, seed)));
    report(
        "two policies combined",
        nanoseconds(|hash| {
            let mut accumulator = HashAccumulator::default();
            accumulator.add(hash);
            accumulator.add(hash);
            accumulator.value()
        }),
    );
    let ends = ["10.0.43.175:50412", "[2001:db8::17]:50412"].map(|end| end.parse::<std::net::SocketAddr>().expect("an address"));
    for (name, end) in ["IPv4", "IPv6"].iter().zip(ends) {
        report(&format!("source address, {name}"), nanoseconds(|_| source_ip_hash(black_box(end.ip()))));
        report(&format!("generated cookie, {name}"), nanoseconds(|_| generated_cookie_value(black_box(end), black_box(end))));
    }
}
