//! Requests without a pause, every one of which must be answered 200.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
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
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(address: SocketAddr, host: &'static str) -> Self {
        let mut load = Self { stop: Arc::default(), served: Arc::default(), tasks: Vec::new() };
        for number in 0..=KEPT {
            let (stop, served) = (Arc::clone(&load.stop), Arc::clone(&load.served));
            load.tasks.push(tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let mut request = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    request += 1;
                    if number == KEPT {
                        client = Client::connect(address).await;
                    }
                    let cookie = format!("hashbasedcookie={number}-{request}");
                    let answer = client.send("GET", "/", &[("host", host), ("cookie", &cookie)], "").await.expect("an answer");
                    assert_eq!(answer.status, 200, "request {request} of client {number}: {answer:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        load
    }

    /// Ends once a hundred more requests are served; returns how many were.
    pub async fn end(self) -> u64 {
        let before = self.served.load(Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        while self.served.load(Ordering::Relaxed) < before + 100 && !self.tasks.iter().any(JoinHandle::is_finished) {
            assert!(Instant::now() < deadline, "the load has stopped");
            tokio::task::yield_now().await;
        }
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.served.load(Ordering::Relaxed)
    }
}
