//! Files that are missing for an instant while they are replaced: no request fails for it.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use tokio::time::Instant;

use crate::support::{Gateway, Load, Pod, gateway, guide, route};

/// How long a file is missing each time: longer than a writer needs, shorter than what counts as a deletion.
const MISSING: Duration = Duration::from_millis(10);

/// Times that each thing is done; `CLINGFISH_ABSENCES=200` is what was measured by hand.
#[expect(clippy::disallowed_methods, reason = "whoever runs the test by hand says how often")]
fn times() -> u32 {
    std::env::var("CLINGFISH_ABSENCES").ok().map_or(15, |times| times.parse().expect("a number"))
}

async fn start() -> (Gateway, Vec<Pod>) {
    let pods = Pod::several(1).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "{ringHash: {}}")).await;
    (gateway, pods)
}

/// How long files were missing: on a machine that is busy with something else it may be longer than was meant, and then it counts.
#[derive(Default)]
struct Absences {
    since: Option<Instant>,
    longest: Duration,
    /// Those that were too long to be passed over, with the time that their effect may have lasted.
    overlong: Vec<(Instant, Instant)>,
}

impl Absences {
    fn begin(&mut self) {
        self.since = Some(Instant::now());
    }

    fn end(&mut self) {
        let (since, now) = (self.since.take().expect("it has begun"), Instant::now());
        self.longest = self.longest.max(now - since);
        if now - since > Duration::from_millis(70) {
            self.overlong.push((since, now + Duration::from_secs(1)));
        }
    }
}

/// Does a thing so many times under load.
async fn repeat(name: &str, gateway: &Gateway, mut step: impl AsyncFnMut(u32, &mut Absences)) {
    let load = Load::start(gateway.address, "httpbin.example");
    let mut absences = Absences::default();
    for round in 0..times() {
        step(round, &mut absences).await;
    }
    let (served, failures) = load.end_with_failures().await;
    let Absences { longest, overlong, .. } = &absences;
    let (excused, failed): (Vec<_>, Vec<_>) =
        failures.into_iter().partition(|(at, _)| overlong.iter().any(|(since, until)| since <= at && at <= until));
    println!(
        "{name}: {} times, missing for {longest:?} at most, {} times too long; {served} requests served, {} failed, {} of those too long",
        times(),
        overlong.len(),
        failed.len(),
        excused.len()
    );
    assert!(failed.is_empty(), "{:?}", failed[0]);
    assert!(overlong.len() < times() as usize, "this machine is too busy to show anything");
}

async fn a_moment() {
    tokio::time::sleep(MISSING).await;
}

/// As git does it: the file is unlinked, created, and written. Some files have another name on the other branch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_is_checked_out() {
    let (gateway, _pods) = start().await;
    let directory = gateway.directory.path().to_owned();
    let written = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let (gateway_text, option) = (written("gateway.yaml"), written("option.yaml"));
    repeat("checkout", &gateway, async |round, absences| {
        let (old, new) = if round % 2 == 0 { ("route.yaml", "routes.yaml") } else { ("routes.yaml", "route.yaml") };
        absences.begin();
        fs::remove_file(directory.join(old)).unwrap();
        fs::remove_file(directory.join("gateway.yaml")).unwrap();
        a_moment().await;
        fs::write(directory.join("gateway.yaml"), format!("# branch {round}\n{gateway_text}")).unwrap();
        fs::remove_file(directory.join("option.yaml")).unwrap();
        fs::write(directory.join("option.yaml"), format!("{option}# branch {round}\n")).unwrap();
        fs::write(directory.join(new), route()).unwrap();
        absences.end();
        a_moment().await;
    })
    .await;
}

/// The old version is renamed away, then the new one is written; or the new one takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_renames() {
    let (gateway, _pods) = start().await;
    let path = |name: &str| gateway.directory.path().join(name);
    let names = ["gateway.yaml", "route.yaml", "upstream.yaml"];
    repeat("editor", &gateway, async |round, absences| {
        let name = names[round as usize % names.len()];
        let text = fs::read_to_string(path(name)).unwrap();
        if round % 2 == 0 {
            absences.begin();
            fs::rename(path(name), path(&format!("{name}~"))).unwrap();
            a_moment().await;
            fs::write(path(name), text).unwrap();
            absences.end();
        } else {
            fs::write(path(&format!("{name}.tmp")), text).unwrap();
            fs::rename(path(&format!("{name}.tmp")), path(name)).unwrap();
        }
        a_moment().await;
    })
    .await;
}

/// `mv b.yaml a.yaml`, with and without a moment in which neither is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_get_other_names() {
    let (gateway, _pods) = start().await;
    let path = |name: &str| gateway.directory.path().join(name);
    let names = ["gateway.yaml", "route.yaml", "upstream.yaml", "endpoints.yaml", "service.yaml"];
    repeat("rename", &gateway, async |round, absences| {
        let name = names[round as usize % names.len()];
        // The other name sorts before one and behind the other.
        let other = format!("{}{name}", if round % 3 == 0 { "a-" } else { "z-" });
        if round % 2 == 0 {
            absences.begin();
            fs::rename(path(name), path("away")).unwrap();
            a_moment().await;
            fs::rename(path("away"), path(&other)).unwrap();
            absences.end();
        } else {
            fs::rename(path(name), path(&other)).unwrap();
        }
        a_moment().await;
        fs::rename(path(&other), path(name)).unwrap();
        a_moment().await;
    })
    .await;
}

/// As the kubelet does it: the link `..data` is turned; then links to new keys are made, and links to keys that are gone are removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_config_map_gets_another_name() {
    let (gateway, _pods) = start().await;
    let directory = gateway.directory.path().to_owned();
    let text = fs::read_to_string(directory.join("gateway.yaml")).unwrap();
    let turn = |version: &str, key: &str, text: &str| {
        fs::create_dir(directory.join(version)).unwrap();
        fs::write(directory.join(version).join(key), text).unwrap();
        symlink(version, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    };
    let link = |key: &str| symlink(Path::new("..data").join(key), directory.join(key)).unwrap();
    turn("..0", "one.yaml", &text);
    link("one.yaml");
    fs::remove_file(directory.join("gateway.yaml")).unwrap();
    repeat("ConfigMap", &gateway, async |round, absences| {
        let (old, new) = if round % 2 == 0 { ("one.yaml", "two.yaml") } else { ("two.yaml", "one.yaml") };
        absences.begin();
        turn(&format!("..{}", round + 1), new, &text);
        a_moment().await;
        link(new);
        absences.end();
        fs::remove_file(directory.join(old)).unwrap();
        a_moment().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_stays_away_is_deleted() {
    let (gateway, _pods) = start().await;
    let load = Load::start(gateway.address, "httpbin.example");
    gateway.put("other.yaml", &route().replace("httpbin-upstream", "other").replace("httpbin.example", "other.example"));
    gateway.until("/", &[("host", "other.example")], |answer| answer.status == 200).await;
    gateway.directory.remove("other.yaml");
    gateway.until("/", &[("host", "other.example")], |answer| answer.status == 404).await;
    load.end().await;
    // And the listener with the Gateway, whose port nobody holds then.
    gateway.directory.put("gateway.yaml", &self::gateway("gloo-gateway").replace("kind: Gateway\n", "kind: Gone\n").replace("{port}", "1"));
    let deadline = Instant::now() + crate::support::PATIENCE;
    while tokio::net::TcpStream::connect(gateway.address).await.is_ok() {
        assert!(Instant::now() < deadline, "the listener stays");
        tokio::task::yield_now().await;
    }
}
