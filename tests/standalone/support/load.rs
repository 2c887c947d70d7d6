//! Requests without a pause, every one of which ought to be answered 200.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{task::JoinHandle, time::Instant};

use super::{Client, PATIENCE};

/// Connections that stay, and one whose every request is on a new one.
const KEPT: usize = 3;

pub struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<(Instant, String)>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(address: SocketAddr, host: &'static str) -> Self {
        let mut load = Self { stop: Arc::default(), served: Arc::default(), failures: Arc::default(), tasks: Vec::new() };
        for number in 0..=KEPT {
            let (stop, served, failures) = (Arc::clone(&load.stop), Arc::clone(&load.served), Arc::clone(&load.failures));
            load.tasks.push(tokio::spawn(async move {
                let mut client = None;
                let mut request = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    request += 1;
                    let kept = client.take().filter(|_| number < KEPT);
                    match ask(kept, address, host, &format!("hashbasedcookie={number}-{request}")).await {
                        Ok(kept) => {
                            client = Some(kept);
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(failure) => failures.lock().unwrap().push((Instant::now(), failure)),
                    }
                }
            }));
        }
        load
    }

    /// Ends once a hundred more requests are served; returns how many were. None may have failed.
    pub async fn end(self) -> u64 {
        let (served, failures) = self.end_with_failures().await;
        assert!(failures.is_empty(), "{} failed, {served} were served; the first: {:?}", failures.len(), failures[0]);
        served
    }

    /// The same; returns also what failed, and when.
    pub async fn end_with_failures(self) -> (u64, Vec<(Instant, String)>) {
        let before = self.served.load(Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        while self.served.load(Ordering::Relaxed) < before + 100 {
            assert!(Instant::now() < deadline, "the load has stopped: {:?}", self.failures.lock().unwrap().last());
            tokio::task::yield_now().await;
        }
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        (self.served.load(Ordering::Relaxed), std::mem::take(&mut self.failures.lock().unwrap()))
    }
}

/// One request, on a new connection where there is none; the connection comes back.
async fn ask(client: Option<Client>, address: SocketAddr, host: &str, cookie: &str) -> Result<Client, String> {
    let mut client = match client {
        Some(client) => client,
        None => Client::try_connect(address).await.map_err(|error| error.to_string())?,
    };
    let answer = client.send("GET", "/", &[("host", host), ("cookie", cookie)], "").await.map_err(|error| error.to_string())?;
    if answer.status == 200 { Ok(client) } else { Err(format!("{answer:?}")) }
}
