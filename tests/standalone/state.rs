//! What outlives a process in a state directory.

use std::{net::SocketAddr, sync::Arc};

use crate::support::{Client, Directory, PATIENCE, Pod, Process, free_address, guide, route, route_option, slices, upstream};

const HOST: (&str, &str) = ("host", "httpbin.example");
const SESSIONS: usize = 12;

/// A directory of manifests, and one for what is kept.
struct Place {
    manifests: Arc<Directory>,
    state: Directory,
    address: SocketAddr,
}

impl Place {
    fn new(files: &[(&str, String)]) -> Self {
        let place = Self { manifests: Arc::new(Directory::new()), state: Directory::new(), address: free_address() };
        files.iter().for_each(|(name, text)| place.put(name, text));
        place
    }

    fn put(&self, name: &str, text: &str) {
        self.manifests.put(name, &text.replace("{port}", &self.address.port().to_string()));
    }

    /// The process ends without a drain when it is dropped.
    async fn start(&self) -> Process {
        let more = [std::ffi::OsStr::new("--state-directory"), self.state.path().as_os_str()];
        let process = Process::start_with(Arc::clone(&self.manifests), self.address, 1024, 1, &more);
        process.until("/readyz", |status, _| status == 200).await;
        process
    }

    fn kept(&self) -> String {
        std::fs::read_to_string(self.state.path().join("last-good.json")).unwrap_or_default()
    }

    async fn until_kept(&self, wanted: impl Fn(&str) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !wanted(&self.kept()) {
            assert!(tokio::time::Instant::now() < deadline, "still {}", self.kept());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// A cookie and the pod that it belongs to.
    async fn session(&self) -> (String, String) {
        let answer = Client::connect(self.address).await.get("/", &[HOST]).await;
        let cookie = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
        (cookie.split(';').next().unwrap().to_owned(), answer.pod().unwrap().to_owned())
    }

    async fn holds(&self, sessions: &[(String, String)]) {
        for (cookie, pod) in sessions {
            let answer = Client::connect(self.address).await.get("/", &[HOST, ("cookie", cookie)]).await;
            assert_eq!((answer.status, answer.pod()), (200, Some(pod.as_str())), "{answer:?}");
        }
    }

    async fn sessions(&self) -> Vec<(String, String)> {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions.push(self.session().await);
        }
        sessions
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_a_restart_of_objects_that_can_no_longer_be_read() {
    let pods = Pod::several(5).await;
    let place = Place::new(&guide("gloo-gateway", &pods, "{ringHash: {}}"));
    let first = place.start().await;
    let sessions = place.sessions().await;
    assert_eq!(place.kept(), "[]");
    place.put("option.yaml", &route_option("7"));
    place.put("upstream.yaml", &upstream("{ringHash: 5}"));
    place.put("route.yaml", &route().replace("[httpbin.example]", "7"));
    place
        .until_kept(|kept| ["RouteOption", "Upstream", "HTTPRoute"].iter().all(|kind| kept.contains(&format!("\"kind\":\"{kind}\""))))
        .await;
    place.holds(&sessions).await;
    drop(first);

    let second = place.start().await;
    place.holds(&sessions).await;
    place.session().await;
    let (_, config) = second.admin("/config").await;
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    for object in ["RouteOption gloo-system/lbhash", "Upstream gloo-system/httpbin", "HTTPRoute gloo-system/httpbin-upstream"] {
        let status = config["statuses"][object].to_string();
        assert!(status.contains("the last version that could be read keeps serving"), "{object}: {status}");
    }
    // It is still there for the third, and goes as soon as the objects can be read, or are gone.
    drop(second);
    let third = place.start().await;
    place.holds(&sessions).await;
    place.put("option.yaml", &route_option("[{header: x-user}]"));
    place.put("route.yaml", &route());
    third.directory.remove("upstream.yaml");
    place.until_kept(|kept| kept == "[]").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_a_restart_with_a_file_that_cannot_be_parsed() {
    const SECRET: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: gloo-system}\nstringData: {key: c3VyZmVy}\n";
    let pods = Pod::several(5).await;
    let place = Place::new(&guide("gloo-gateway", &pods, "{ringHash: {}}"));
    place.put("option.yaml", &(route_option(crate::support::COOKIE) + SECRET));
    let first = place.start().await;
    let sessions = place.sessions().await;
    place.put("option.yaml", "kind: [");
    place.until_kept(|kept| kept.contains("RouteOption")).await;
    assert!(!place.kept().contains("Secret") && !place.kept().contains("c3VyZmVy"), "{}", place.kept());
    drop(first);

    let second = place.start().await;
    place.holds(&sessions).await;
    let (_, config) = second.admin("/config").await;
    assert!(config.contains("the file's last version keeps serving"), "{config}");
    // The file can be parsed again, and no longer has the RouteOption.
    place.put("option.yaml", &slices(&[]));
    place.until_kept(|kept| kept == "[]").await;
    second.until("/config", |_, config| !config.contains("RouteOption gloo-system/lbhash")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_while_no_process_runs_does_not_come_back() {
    let pods = Pod::several(1).await;
    let place = Place::new(&guide("gloo-gateway", &pods, "{ringHash: {}}"));
    let first = place.start().await;
    place.put("option.yaml", &route_option("7"));
    place.until_kept(|kept| kept.contains("RouteOption")).await;
    drop(first);
    place.manifests.remove("option.yaml");
    let second = place.start().await;
    place.until_kept(|kept| kept == "[]").await;
    let answer = Client::connect(place.address).await.get("/", &[HOST]).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (200, None));
    // Another object by its name, of which no version can be read, does not get what the one before it said.
    place.put("option.yaml", &route_option("7"));
    second.until("/config", |_, config| config.contains("no version of it could be read")).await;
    let answer = Client::connect(place.address).await.get("/", &[HOST]).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (500, None));
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_state_that_cannot_be_read_costs_only_what_it_held() {
    let pods = Pod::several(1).await;
    let place = Place::new(&guide("gloo-gateway", &pods, "{ringHash: {}}"));
    place.state.put("last-good.json", "{ half of it");
    let process = place.start().await;
    place.session().await;
    place.put("option.yaml", &route_option("7"));
    place.until_kept(|kept| kept.contains("RouteOption")).await;
    drop(process);
    let _restarted = place.start().await;
    place.session().await;
}
