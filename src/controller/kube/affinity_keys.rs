//! The keys of affinity tags: a Secret of the install, filled once by whichever replica is first, and read again from time to time.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::base::{AffinityKeys, ObjectName};

use super::{
    client::{CallError, FIELD_MANAGER, call, chain},
    gate::{ClusterEvent, First, Gate},
};

/// The entry of the Secret.
const ENTRY: &str = "keys";

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

/// Looks without a clear answer before nobody waits for the keys any more.
const PATIENCE: u32 = 5;

/// What the Secret says.
#[derive(Debug, PartialEq)]
enum Stored {
    Keys(Arc<AffinityKeys>),
    /// Nobody has filled it yet.
    Empty {
        resource_version: Option<String>,
    },
    Wrong(&'static str),
}

/// Follows the Secret. Never ends. Where it cannot be had, no session is held, and nobody waits for it.
pub(super) async fn follow_keys(client: Client, gate: Arc<Gate>, name: ObjectName) {
    let api: Api<Secret> = Api::namespaced(client, &name.namespace);
    let mut told = None;
    let mut warned = false;
    let mut unclear = 0;
    loop {
        let mut pause = INTERVAL;
        match stored_keys(&api, &name.name).await {
            Ok(Some(Stored::Keys(keys))) => {
                if told.as_ref() != Some(&keys) {
                    told = Some(Arc::clone(&keys));
                    gate.pass(ClusterEvent::AffinityKeys(keys));
                }
                (warned, unclear) = (false, 0);
                gate.listed(First::AffinityKeys);
            }
            // Somebody else was quicker, or the answer to our write does not say.
            Ok(Some(Stored::Empty { .. })) if unclear < PATIENCE => (pause, unclear) = (RETRY, unclear + 1),
            Ok(Some(Stored::Empty { .. })) => {
                warn(&name, &mut warned, "it stays empty");
                gate.listed(First::AffinityKeys);
            }
            Ok(Some(Stored::Wrong(expected))) => {
                warn(&name, &mut warned, &format!("entry {ENTRY}: {expected}"));
                gate.listed(First::AffinityKeys);
            }
            Ok(None) => {
                warn(&name, &mut warned, "there is no such Secret; the chart makes it");
                gate.listed(First::AffinityKeys);
            }
            Err(error) if !error.is_refusal() && unclear < PATIENCE => (pause, unclear) = (RETRY, unclear + 1),
            Err(error) => {
                warn(&name, &mut warned, &chain(&error));
                gate.listed(First::AffinityKeys);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

fn warn(name: &ObjectName, warned: &mut bool, why: &str) {
    if !std::mem::replace(warned, true) {
        tracing::warn!("Secret {name} gives no keys: {why}. Sessions are held by the keys before, if there were any, else not at all");
    }
}

/// What the Secret says, once it was filled if it was empty; `None`: there is none.
async fn stored_keys(api: &Api<Secret>, name: &str) -> Result<Option<Stored>, CallError> {
    let Some(secret) = call(api.get_opt(name)).await? else { return Ok(None) };
    let Stored::Empty { resource_version } = stored(&secret) else { return Ok(Some(stored(&secret))) };
    let Some(key) = AffinityKeys::generate() else { return Ok(Some(Stored::Wrong("the system has no random numbers"))) };
    let patch = json!({ "metadata": { "resourceVersion": resource_version }, "stringData": { ENTRY: key } });
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match call(api.patch(name, &parameters, &Patch::Merge(patch))).await {
        Ok(secret) => Ok(Some(stored(&secret))),
        Err(error) if error.code() == Some(409) => Ok(Some(Stored::Empty { resource_version: None })),
        Err(error) => Err(error),
    }
}

fn stored(secret: &Secret) -> Stored {
    let Some(text) = secret.data.as_ref().and_then(|data| data.get(ENTRY)).filter(|text| !text.0.is_empty()) else {
        return Stored::Empty { resource_version: secret.metadata.resource_version.clone() };
    };
    match std::str::from_utf8(&text.0).map_err(|_| "expected text").and_then(AffinityKeys::parse) {
        Ok(keys) => Stored::Keys(Arc::new(keys)),
        Err(expected) => Stored::Wrong(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(data: &[(&str, &str)]) -> Secret {
        let data = data.iter().map(|(name, text)| ((*name).to_owned(), k8s_openapi::ByteString(text.as_bytes().to_vec()))).collect();
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.resource_version = Some("7".to_owned());
        secret
    }

    #[test]
    fn a_secret_is_filled_only_where_it_has_no_keys() {
        let key = "ab".repeat(32);
        let empty = || Stored::Empty { resource_version: Some("7".to_owned()) };
        assert_eq!(stored(&secret(&[])), empty());
        assert_eq!(stored(&secret(&[(ENTRY, "")])), empty());
        assert_eq!(stored(&secret(&[(ENTRY, &key)])), Stored::Keys(Arc::new(AffinityKeys::parse(&key).unwrap())));
        assert!(matches!(stored(&secret(&[(ENTRY, "mine")])), Stored::Wrong(expected) if expected.contains("64 hexadecimal")));
    }
}
