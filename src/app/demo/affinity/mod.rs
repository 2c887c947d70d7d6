//! `clingfish demo --affinity`: pods come and go by key press, and customers keep their sessions.

mod customers;
mod keys;
mod town;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::LocalSet, time::sleep};

use crate::settings::Settings;
use crate::telemetry::Logging;

use super::super::{
    error::CommandError,
    serve::{App, Resources},
    serving::drain,
    shutdown, source,
};
use super::{backend::Pods, port::check_listener};
use customers::{Book, Seen};
use town::{Step, Town};

const MANIFESTS: &str = include_str!("manifests.yaml");
const INTRODUCTION: &str = include_str!("introduction.txt");

/// Pods at first.
const PODS: u8 = 3;
const CUSTOMERS: usize = 24;

/// Time for customers to see what a step has done to them.
const LOOK: Duration = Duration::from_millis(1200);

/// How long a pod is Terminating.
const DRAIN: Duration = Duration::from_secs(8);

/// The scene as it runs.
struct Scene<'a> {
    town: Town,
    pods: Pods,
    manifests: &'a Manifests,
    book: Book,
    out: &'a mut dyn Write,
}

/// A directory for as long as the demo runs.
#[derive(Debug)]
struct Manifests(PathBuf);

/// Plays the scene until it is told to end.
pub(super) async fn play(
    settings: &Settings,
    logging: Logging,
    port: u16,
    mut pods: Pods,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let failed = |error: io::Error| CommandError::Message(format!("the scene cannot be set: {error}"));
    let town = Town::new(PODS);
    let manifests = Manifests::new().map_err(failed)?;
    let text = MANIFESTS.replace("{port}", &port.to_string()).replace("{pod_port}", &pods.port.to_string());
    manifests.write("scene.yaml", &text).map_err(failed)?;
    manifests.write("endpoints.yaml", &town.manifest(pods.port)).map_err(failed)?;
    for pod in town.serving() {
        pods.open(pod.0, pod.name()).map_err(failed)?;
    }
    let app = App::start(settings, source::options(settings), Resources::Directory(manifests.0.clone()), Some(logging))?;
    app.ready().await;
    check_listener(&app, port)?;
    let (terminal, keys) = keys::listen();
    let enter = if terminal.is_immediate() { "" } else { "     (and Enter)" };
    introduce(port, app.admin_address(), &manifests.0, enter, out)?;
    let local = LocalSet::new();
    let signal = local
        .run_until(async {
            let book = customers::start(CUSTOMERS, port);
            let mut scene = Scene { town, pods, manifests: &manifests, book, out };
            scene.tell_sessions(LOOK).await?;
            tokio::select! {
                signal = shutdown::signal() => Ok::<_, CommandError>(signal?),
                result = scene.listen(keys) => result.map(|()| "q"),
            }
        })
        .await?;
    drop(terminal);
    drop(local);
    drain(app, &signal).await
}

fn introduce(port: u16, admin: SocketAddr, manifests: &Path, enter: &str, out: &mut dyn Write) -> io::Result<()> {
    let text = INTRODUCTION
        .replace("{port}", &port.to_string())
        .replace("{pods}", &PODS.to_string())
        .replace("{sessions}", &CUSTOMERS.to_string())
        .replace("{admin}", &admin.to_string())
        .replace("{manifests}", &manifests.join("scene.yaml").display().to_string())
        .replace("{drain}", &DRAIN.as_secs().to_string())
        .replace("{enter}", enter);
    out.write_all(text.as_bytes())?;
    out.flush()
}

// === impl Scene ===

impl Scene<'_> {
    /// Does what is pressed, until `q`. Where nothing is pressed any more, for ever.
    async fn listen(&mut self, mut keys: tokio::sync::mpsc::UnboundedReceiver<char>) -> Result<(), CommandError> {
        loop {
            let Some(key) = keys.recv().await else { return std::future::pending().await };
            let done = match key {
                '+' | 'u' => self.steps(self.town.grown().map(|step| vec![step])).await,
                '-' => self.steps(self.town.shrunk().map(|step| vec![step])).await,
                'r' => self.steps(self.town.rolled()).await,
                'd' => self.drain().await,
                'q' => return Ok(()),
                _ => self.tell_sessions(Duration::ZERO).await,
            };
            done.map_err(|error| CommandError::Message(format!("the scene is over: {error}")))?;
        }
    }

    async fn drain(&mut self) -> io::Result<()> {
        self.steps(self.town.draining().map(|step| vec![step])).await?;
        if let Some(step) = self.town.drained() {
            sleep(DRAIN.saturating_sub(LOOK)).await;
            self.steps(Ok(vec![step])).await?;
        }
        Ok(())
    }

    async fn steps(&mut self, steps: Result<Vec<Step>, String>) -> io::Result<()> {
        let steps = match steps {
            Ok(steps) => steps,
            Err(why) => return writeln!(self.out, "{why}"),
        };
        for Step { town, what } in steps {
            self.book.borrow_mut().take();
            for pod in town.serving() {
                self.pods.open(pod.0, pod.name())?;
            }
            self.manifests.write("endpoints.yaml", &town.manifest(self.pods.port))?;
            let gone: Vec<_> = self.town.serving().filter(|pod| !town.serving().any(|one| one == *pod)).collect();
            self.town = town;
            sleep(LOOK).await;
            // A pod ends after the gateway has learnt of it, as with a preStop hook.
            gone.into_iter().for_each(|pod| self.pods.close(pod.0));
            let seen = self.book.borrow_mut().take();
            writeln!(self.out, "{}", line(&what, &seen))?;
            self.out.flush()?;
        }
        Ok(())
    }

    async fn tell_sessions(&mut self, after: Duration) -> io::Result<()> {
        sleep(after).await;
        let seen = self.book.borrow().clone();
        writeln!(self.out, "{}", sessions(&seen))?;
        self.out.flush()
    }
}

// === impl Manifests ===

impl Manifests {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("clingfish-demo-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Whole or not at all: the gateway reads it at any moment.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.0.join(format!(".{name}"));
        fs::write(&new, text)?;
        fs::rename(new, self.0.join(name))
    }
}

impl Drop for Manifests {
    fn drop(&mut self) {
        // What is left of it is in the system's directory for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a step did to the sessions.
fn line(what: &str, seen: &Seen) -> String {
    let moved = seen.moved.iter().filter(|moved| **moved).count();
    let all = seen.moved.len();
    let percent = (moved * 100).checked_div(all).unwrap_or_default();
    format!(
        "{what}: {moved} of {all} sessions moved ({percent} %), {} of {} requests failed.  {}",
        seen.failed,
        seen.requests,
        sessions(seen)
    )
}

/// `cart-2 ████ 8`
fn sessions(seen: &Seen) -> String {
    let by_pod = seen.by_pod();
    by_pod.iter().map(|(pod, sessions)| format!("{pod} {} {sessions}", "\u{2588}".repeat(*sessions))).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Manifests as Parser;
    use crate::translate::{self, Options, translate};

    #[test]
    fn the_scene_is_accepted_without_a_word_and_hashes() {
        let mut parser = Parser::new();
        let scene = MANIFESTS.replace("{port}", "8080").replace("{pod_port}", "8000");
        let changes = parser.update("scene.yaml", scene.as_bytes()).changes;
        let endpoints = parser.update("endpoints.yaml", Town::new(PODS).manifest(8000).as_bytes()).changes;
        assert_eq!(parser.notices(), []);
        let mut resources = translate::Resources::default();
        changes.into_iter().chain(endpoints).for_each(|change| resources.apply(change));
        let options = Options { assume_bound: true, ..Options::default() };
        let translation = translate(&resources, &source::observed(), &options, None);
        assert_eq!(translate::report::report(&resources, &translation, &options).findings, []);
        let cluster = translation.snapshot.clusters.iter().flatten().next().expect("the cart");
        assert_eq!((cluster.hosts.len(), cluster.balancer.uses_hash()), (3, true));
    }

    #[test]
    fn what_is_told() {
        let seen = Seen {
            pods: vec![Some("cart-2".into()), Some("cart-2".into()), Some("cart-3".into())],
            moved: vec![true, false, false],
            failed: 0,
            requests: 9,
        };
        let told = line("3 -> 2 pods, cart-4 went", &seen);
        assert_eq!(
            told,
            "3 -> 2 pods, cart-4 went: 1 of 3 sessions moved (33 %), 0 of 9 requests failed.  cart-2 \u{2588}\u{2588} 2  cart-3 \u{2588} 1"
        );
        let mut text = Vec::new();
        introduce(8080, "127.0.0.1:9901".parse().unwrap(), Path::new("/tmp/demo"), "", &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains('{') && text.contains("/tmp/demo/scene.yaml"), "{text}");
    }
}
