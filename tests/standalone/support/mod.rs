//! Gateways, pods and clients for tests.

mod client;
mod load;
mod pod;
mod process;
mod resources;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use clingfish::{
    app::{self, App},
    settings::{RawSettings, Settings},
};

pub use client::{Answer, Client};
pub use load::Load;
pub use pod::Pod;
pub use process::Process;
pub use resources::*;

/// Time after which a test gives up waiting.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that is removed with its content.
pub struct Directory(PathBuf);

/// A gateway with an address of its own on loopback.
pub struct Gateway {
    pub directory: Directory,
    pub address: SocketAddr,
    pub app: App,
}

/// Every gateway of this process gets another address, so that tests do not meet on a port.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Directory {
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("clingfish-standalone-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file beside and renames it into place.
    pub fn put(&self, name: &str, text: &str) {
        let beside = self.0.join(format!("{name}.new"));
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.0.join(name)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.join(name)).unwrap();
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An address of 127.0.0.0/8 that no other gateway of the tests has, with a port that is free there.
pub fn free_address() -> SocketAddr {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 64 + (number % 64) as u8, high, low.max(1));
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

pub fn settings(bind: IpAddr) -> Settings {
    let raw = RawSettings {
        workers: Some(2),
        admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        bind: Some(bind),
        drain_max: Some(Duration::from_secs(10)),
        ..RawSettings::default()
    };
    raw.validate().unwrap()
}

impl Gateway {
    /// Starts a gateway on files of (name, text), in which `{port}` stands for the listener's port.
    pub async fn start(files: &[(&str, String)]) -> Self {
        let directory = Directory::new();
        let address = free_address();
        for (name, text) in files {
            directory.put(name, &text.replace("{port}", &address.port().to_string()));
        }
        let settings = settings(address.ip());
        let app = App::start(&settings, app::options(&settings), app::Resources::Directory(directory.path().to_owned()), None).unwrap();
        tokio::time::timeout(PATIENCE, app.ready()).await.expect("the gateway is ready");
        Self { directory, address, app }
    }

    /// Writes a file, filling the port in.
    pub fn put(&self, name: &str, text: &str) {
        self.directory.put(name, &text.replace("{port}", &self.address.port().to_string()));
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    pub async fn admin(&self) -> Client {
        Client::connect(self.app.admin_address()).await
    }

    /// `GET /config`.
    pub async fn config(&self) -> serde_json::Value {
        let answer = self.admin().await.get("/config", &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Sends the request on new connections until the answer is as wanted.
    pub async fn until(&self, path: &str, headers: &[(&str, &str)], wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.client().await.get(path, headers).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "still {answer:?}");
            tokio::task::yield_now().await;
        }
    }

    /// Reads `/config` until it is as wanted.
    pub async fn until_config(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let config = self.config().await;
            if wanted(&config) {
                return config;
            }
            assert!(tokio::time::Instant::now() < deadline, "still {config:#}");
            tokio::task::yield_now().await;
        }
    }
}
