//! Addresses of the DNS names that static Upstreams use: asked every few seconds while somebody refers to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{net::lookup_host, task::JoinSet, time::timeout};

use super::{EngineHandle, Input};

/// Time between two questions for the same name.
const INTERVAL: Duration = Duration::from_secs(5);

/// Most time for one answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Keeps the engine's addresses current until the engine is gone. A name that cannot be resolved keeps its last addresses.
pub async fn resolve_names(engine: EngineHandle) {
    let mut wanted = engine.names();
    let mut known: BTreeMap<Box<str>, Arc<[IpAddr]>> = BTreeMap::new();
    loop {
        let names: BTreeSet<Box<str>> = wanted.borrow_and_update().clone();
        let mut changed = false;
        known.retain(|name, _| {
            let keep = names.contains(name);
            changed |= !keep;
            keep
        });
        let mut questions: JoinSet<_> = names.iter().cloned().map(resolve).collect();
        while let Some(Ok((name, addresses))) = questions.join_next().await {
            match addresses {
                Ok(addresses) if known.get(&name) == Some(&addresses) => {}
                Ok(addresses) => {
                    known.insert(name, addresses);
                    changed = true;
                }
                Err(error) => tracing::warn!(%error, "name {name} of an Upstream cannot be resolved; its last addresses, if any, are used"),
            }
        }
        if changed {
            engine.send(Input::Names(known.clone()));
        }
        let next = async { if names.is_empty() { std::future::pending().await } else { tokio::time::sleep(INTERVAL).await } };
        tokio::select! {
            change = wanted.changed() => if change.is_err() { return },
            () = next => {}
        }
    }
}

/// The addresses of a name, sorted: the order in which a server gives them must not matter.
async fn resolve(name: Box<str>) -> (Box<str>, Result<Arc<[IpAddr]>, String>) {
    let answer = match timeout(PATIENCE, lookup_host((&*name, 0))).await {
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(addresses)) => Ok(addresses.map(|address| address.ip()).collect::<BTreeSet<_>>().into_iter().collect()),
    };
    (name, answer)
}
