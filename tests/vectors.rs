//! Choices recorded from a running Envoy, replayed: hash, host, retries' hosts and Set-Cookie have to be the same.
//!
//! The files are in `tests/vectors` (their format: its README); `VECTORS_DIR` names another folder. A field that is not
//! known here is an error: what was recorded and is not compared would count as agreement.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail by panicking")]

#[path = "vectors/affinity.rs"]
mod affinity;
#[path = "vectors/format.rs"]
mod format;

use std::fs;
use std::path::{Path, PathBuf};

use clingfish::lb::{Balancer, BalancerConfig, HostHealth, LbHost, MaglevConfig, Policy, RingConfig, RingHashFunction, host_key};

use format::{Endpoint, Expectation, HashFunction, Health, LbType, Vector};

/// `host_selection_retry_max_attempts` of the recordings.
const RETRY_ATTEMPTS: u32 = 4;

#[test]
fn choices_are_envoys() {
    let folder = folder();
    let vectors = read_folder(&folder).unwrap_or_else(|error| panic!("{error}"));
    let mut differences = Vec::new();
    let mut choices = 0;
    for (file, vector) in &vectors {
        choices += vector.expect.len();
        match replay(vector) {
            Ok(found) => differences.extend(found.into_iter().map(|difference| format!("{file}: {difference}"))),
            Err(error) => differences.push(format!("{file}: {error}")),
        }
    }
    // On a line of its own, whatever the test harness has printed before.
    println!("\n{} files, {choices} choices", vectors.len());
    assert!(
        differences.is_empty(),
        "{} differences from Envoy, the first of them:\n{}",
        differences.len(),
        differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
}

#[expect(clippy::disallowed_methods, reason = "a test has no settings to read the environment for it")]
fn folder() -> PathBuf {
    std::env::var("VECTORS_DIR").map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), PathBuf::from)
}

/// Every `*.json` of a folder by name; at least one with at least one choice.
fn read_folder(folder: &Path) -> Result<Vec<(String, Vector)>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|ext| ext == "json")).collect();
    paths.sort();
    let vectors = paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, read(&text).map_err(|error| format!("{}: {error}", path.display()))?))
        })
        .collect::<Result<Vec<_>, String>>()?;
    if vectors.is_empty() {
        return Err(format!("{}: no *.json in it", folder.display()));
    }
    Ok(vectors)
}

fn read(text: &str) -> Result<Vector, String> {
    let vector: Vector = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if vector.expect.is_empty() { Err("`expect` is empty".into()) } else { Ok(vector) }
}

/// The differences between what Envoy did and what we do.
fn replay(vector: &Vector) -> Result<Vec<String>, String> {
    let endpoints = in_envoys_order(&vector.endpoints);
    let hosts = endpoints.iter().map(|endpoint| lb_host(endpoint, vector.use_hostname)).collect::<Result<Vec<_>, _>>()?;
    let balancer = Balancer::build(&hosts, &balancer_config(vector)?).map_err(|error| error.to_string())?;
    let policies = affinity::Policies::new(&vector.policy)?;
    let mut active = vec![0_u32; hosts.len()];
    let mut differences = Vec::new();
    for (number, expected) in vector.expect.iter().enumerate() {
        let found = answer(&balancer, &endpoints, &policies, expected, &mut active).and_then(|found| found.differences(expected));
        let found = found.unwrap_or_else(|error| vec![error]);
        differences.extend(found.into_iter().map(|difference| format!("expect[{number}] {:?}: {difference}", expected.key)));
    }
    Ok(differences)
}

/// Endpoints reach Envoy in groups, one for each priority and locality.
fn in_envoys_order(endpoints: &[Endpoint]) -> Vec<&Endpoint> {
    let mut ordered: Vec<&Endpoint> = endpoints.iter().collect();
    ordered.sort_by_key(|endpoint| (endpoint.priority, endpoint.locality));
    ordered
}

fn lb_host(endpoint: &Endpoint, use_hostname: bool) -> Result<LbHost, String> {
    let address = endpoint.addr.parse().map_err(|error| format!("address {}: {error}", endpoint.addr))?;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let key = match given(&endpoint.hash_key) {
        Some(key) => key,
        None if use_hostname => given(&endpoint.hostname).ok_or_else(|| format!("{} has no hostname", endpoint.addr))?,
        None => host_key(address),
    };
    let health = match endpoint.health {
        Health::Unknown | Health::Healthy => HostHealth::Healthy,
        Health::Degraded => HostHealth::Degraded,
        Health::Unhealthy | Health::Draining | Health::Timeout => HostHealth::Unhealthy,
    };
    Ok(LbHost { weight: endpoint.weight, priority: endpoint.priority, locality: endpoint.locality, health, ..LbHost::new(key) })
}

fn balancer_config(vector: &Vector) -> Result<BalancerConfig, String> {
    let lb = &vector.lb;
    let (ring, maglev) = (RingConfig::default(), MaglevConfig::default());
    let policy = match lb.kind {
        LbType::RingHash if lb.table_size.is_none() => Policy::RingHash(RingConfig {
            minimum_ring_size: lb.min.unwrap_or(ring.minimum_ring_size),
            maximum_ring_size: lb.max.unwrap_or(ring.maximum_ring_size),
            hash_function: match lb.function {
                Some(HashFunction::MurmurHash2) => RingHashFunction::MurmurHash2,
                Some(HashFunction::XxHash | HashFunction::DefaultHash) | None => RingHashFunction::XxHash,
            },
        }),
        LbType::Maglev if lb.min.is_none() && lb.max.is_none() && lb.function.is_none() => {
            Policy::Maglev(MaglevConfig { table_size: lb.table_size.unwrap_or(maglev.table_size) })
        }
        LbType::RingHash | LbType::Maglev => return Err("`lb` has a field of the other type".into()),
    };
    Ok(BalancerConfig {
        policy,
        locality_weights: vector.locality_weighted.then(|| vector.locality_weights.clone().unwrap_or_default()),
        hash_balance_factor: lb.balance,
        ..BalancerConfig::default()
    })
}

/// What we do with a request.
struct Answer {
    hash: Option<u64>,
    /// The hosts of the first try and of the retries.
    attempted: Vec<String>,
    set_cookie: Vec<String>,
}

/// Chooses as often as the recording tried, and leaves the request open.
fn answer(
    balancer: &Balancer,
    endpoints: &[&Endpoint],
    policies: &affinity::Policies,
    expected: &Expectation,
    active: &mut [u32],
) -> Result<Answer, String> {
    let affinity = policies.evaluate(expected)?;
    // Without a hash Envoy chooses at random; `differences` refuses to compare that.
    let hash = affinity.hash.unwrap_or(0);
    let tries = expected.attempted.as_ref().map_or(1, Vec::len);
    let mut previous: Vec<u32> = Vec::new();
    for _ in 0..tries {
        let mut choice = None;
        for attempt in 0..=RETRY_ATTEMPTS {
            choice = balancer.choose_bounded(hash, attempt, active.iter().sum(), |host| active[host]);
            if choice.is_none_or(|choice| !previous.contains(&choice.host)) {
                break;
            }
        }
        if !balancer.is_bounded() && choice != balancer.choose_again(hash, RETRY_ATTEMPTS, |host| previous.contains(&host)) {
            return Err("`choose_again` is not the first attempt that is not rejected".into());
        }
        previous.push(choice.ok_or("no host is chosen")?.host);
    }
    let distinct = previous.iter().enumerate().take_while(|(at, host)| !previous[..*at].contains(host)).count();
    if !balancer.is_bounded() && balancer.sequence(hash, distinct)[..] != previous[..distinct] {
        return Err("`sequence` has another order than the attempts".into());
    }
    if let [.., last] = previous[..] {
        active[last as usize] += 1;
    }
    let attempted = previous.iter().map(|host| endpoints[*host as usize].addr.clone()).collect();
    Ok(Answer { hash: affinity.hash, attempted, set_cookie: affinity.set_cookie })
}

impl Answer {
    fn differences(&self, expected: &Expectation) -> Result<Vec<String>, String> {
        let mut differences = Vec::new();
        let hash = self.hash.map(|hash| format!("{hash:016x}"));
        if hash != expected.hash {
            differences.push(format!("hash is {hash:?}, Envoy's {:?}", expected.hash));
        }
        let attempted = match (&expected.host, &expected.attempted) {
            (Some(host), None) => vec![host.clone()],
            (None, Some(attempted)) => attempted.clone(),
            _ => return Err("expected either `host` or `attempted`".into()),
        };
        if hash.is_none() {
            differences.push("without a hash the host is random and cannot be compared".into());
        }
        if self.attempted != attempted {
            differences.push(format!("chosen is {:?}, Envoy's {attempted:?}", self.attempted));
        }
        if self.set_cookie != expected.set_cookie {
            differences.push(format!("set-cookie is {:?}, Envoy's {:?}", self.set_cookie, expected.set_cookie));
        }
        Ok(differences)
    }
}

#[test]
fn an_empty_folder_is_an_error() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vectors-none");
    fs::create_dir_all(&folder).unwrap();
    assert!(read_folder(&folder).unwrap_err().contains("no *.json"));
    assert!(read_folder(&folder.join("absent")).is_err());
}

const SMALL: &str = r#"{"case": "c", "envoy_version": "1.40.0", "lb": {"type": "ring_hash"},
    "endpoints": [{"addr": "127.0.0.2:1", "weight": 1}], "policy": [{"header": "x-user"}],
    "expect": [{"key": "user-1", "hash": "a173746b114c6be8", "host": "127.0.0.2:1"}]}"#;

#[test]
fn unknown_fields_are_errors() {
    assert!(read(SMALL).is_ok());
    for (at, what) in
        [(r#"{"case""#, "top"), (r#"{"type""#, "lb"), (r#"{"addr""#, "endpoint"), (r#"{"header""#, "policy"), (r#"{"key""#, "expectation")]
    {
        let changed = SMALL.replacen(at, &at.replace('{', r#"{"new": 1, "#), 1);
        assert!(read(&changed).unwrap_err().contains("unknown field `new`"), "{what}");
    }
    let nested = SMALL.replace(r#""user-1""#, r#"{"remote": "127.0.0.1:1", "local": "127.0.0.1:2", "headers": [], "new": 1}"#);
    assert!(read(&nested).is_err());
    assert!(read(&SMALL.replace(r#""ring_hash""#, r#""random""#)).is_err());
}

#[test]
fn differences_are_found() {
    let differences = |text: &str| replay(&read(text).unwrap()).unwrap_or_else(|error| vec![error]);
    assert_eq!(differences(SMALL), [""; 0]);
    for (from, to, message) in [
        ("a173746b114c6be8", "a173746b114c6be9", "hash is"),
        (r#""host": "127.0.0.2:1""#, r#""host": "127.0.0.3:1""#, "chosen is"),
        (r#""host": "127.0.0.2:1""#, r#""attempted": ["127.0.0.2:1", "127.0.0.3:1"]"#, "chosen is"),
        (r#""hash":"#, r#""set_cookie": ["a=b"], "hash":"#, "set-cookie is"),
        (r#", "host": "127.0.0.2:1""#, "", "either `host` or `attempted`"),
        (r#"{"type": "ring_hash"}"#, r#"{"type": "ring_hash", "table_size": 3}"#, "other type"),
        (r#"{"header": "x-user"}"#, r#"{"header": "x-other"}"#, "random"),
        (r#"{"header": "x-user"}"#, r#"{"header": "x-user", "query": "q"}"#, "exactly one"),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let found = differences(&SMALL.replace(from, to));
        assert!(found.iter().any(|difference| difference.contains(message)), "{to}: {found:?}");
    }
}
