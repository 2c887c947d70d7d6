//! A gateway in a process of its own, with a limit on open files.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use super::{Client, Directory, PATIENCE, free_address};

pub struct Process {
    pub directory: Arc<Directory>,
    /// Where the listener of the files listens.
    pub address: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
}

impl Process {
    /// Starts a gateway on files of (name, text), in which `{port}` stands for the listener's port, and waits until it is ready.
    pub async fn start(files: &[(&str, String)], open_files: u32, workers: u32) -> Self {
        let directory = Directory::new();
        let address = free_address();
        for (name, text) in files {
            directory.put(name, &text.replace("{port}", &address.port().to_string()));
        }
        let process = Self::start_in(directory, address, open_files, workers);
        process.until("/readyz", |status, _| status == 200).await;
        process
    }

    /// Starts a gateway on a directory, and does not wait.
    pub fn start_in(directory: impl Into<Arc<Directory>>, address: SocketAddr, open_files: u32, workers: u32) -> Self {
        Self::start_with(directory, address, open_files, workers, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(
        directory: impl Into<Arc<Directory>>,
        address: SocketAddr,
        open_files: u32,
        workers: u32,
        more: &[&std::ffi::OsStr],
    ) -> Self {
        let directory = directory.into();
        let script = format!("ulimit -n {open_files} && exec \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_clingfish"), "standalone", "--admin", "127.0.0.1:0", "--log-format", "json"])
            // The ceiling on connections keeps descriptors free too; here it is the limit on descriptors that bites.
            .args(["--max-connections", "100000", "--max-connections-per-listener", "100000"])
            .args(["--workers", &workers.to_string(), "--bind", &address.ip().to_string(), "--manifests"])
            .arg(directory.path())
            .args(more)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let admin = lines.by_ref().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            line["admin"].as_str().map(|admin| admin.parse().unwrap())
        });
        // The log goes on, and nobody may have to wait for it to be read.
        std::thread::spawn(move || lines.for_each(drop));
        Self { directory, address, admin: admin.expect("the log names the admin address"), child }
    }

    pub async fn admin(&self, path: &str) -> (u16, String) {
        let answer = Client::connect(self.admin).await.get(path, &[]).await;
        (answer.status, answer.body)
    }

    /// Asks the admin port until the answer is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(u16, &str) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.admin(path).await;
            if wanted(status, &body) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path} is still {status} {body}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// A number out of the metrics; 0 where the series does not exist.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.admin("/metrics").await;
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
