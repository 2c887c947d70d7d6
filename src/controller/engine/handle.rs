//! How the others speak with the engine.

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use crate::base::Message;
use crate::snapshot::{BackendName, Cluster};
use crate::translate::BackendCluster;

use super::input::{Input, Report};

/// Sends messages to the engine.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    pub(super) inputs: Arc<mpsc::Sender<Input>>,
    pub(super) names: watch::Receiver<BTreeSet<Box<str>>>,
}

// === impl EngineHandle ===

impl EngineHandle {
    /// Hands something to the engine; lost where the engine has ended.
    pub fn send(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    /// The state that everything so far leads to, with all hash tables; `None` where that takes longer.
    pub async fn report(&self, patience: Duration) -> Option<Report> {
        self.ask(Input::Report, patience).await
    }

    /// The state at hand, whatever is still being prepared; `None` where the engine does not answer in time: it hangs in its current work.
    pub async fn state(&self, patience: Duration) -> Option<Report> {
        self.ask(Input::State, patience).await
    }

    async fn ask(&self, input: fn(oneshot::Sender<Report>) -> Input, patience: Duration) -> Option<Report> {
        let (reply, report) = oneshot::channel();
        self.send(input(reply));
        tokio::time::timeout(patience, report).await.ok()?.ok()
    }

    /// A backend's cluster, whether or not a route uses it; `None` where the engine does not answer in time. A large table is built for the
    /// one who asks, and delays nobody else.
    pub async fn cluster(&self, backend: BackendName, patience: Duration) -> Option<Result<Arc<Cluster>, Message>> {
        tokio::time::timeout(patience, self.whole_cluster(backend)).await.ok()?
    }

    async fn whole_cluster(&self, backend: BackendName) -> Option<Result<Arc<Cluster>, Message>> {
        let mut built = None;
        loop {
            let (reply, cluster) = oneshot::channel();
            self.send(Input::Cluster(backend.clone(), built.take(), reply));
            let request = match cluster.await.ok()? {
                Ok(BackendCluster::Whole(cluster)) => return Some(Ok(cluster)),
                Ok(BackendCluster::WithoutTable(request)) => request,
                Err(why) => return Some(Err(why)),
            };
            built = Some(Box::new(tokio::task::spawn_blocking(move || request.build()).await.ok()?));
        }
    }

    /// The DNS names that the current configuration refers to.
    pub fn names(&self) -> watch::Receiver<BTreeSet<Box<str>>> {
        self.names.clone()
    }
}
