//! The connection to the API server: every answer has a deadline, and a connection that leads nowhere is noticed.

use std::{sync::Arc, time::Duration};

use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _},
};
use tokio::time::timeout;
use tower::ServiceBuilder;

use crate::base::Message;

/// Most time until an answer begins, and most time for any call that is no watch.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// The server ends a watch after this many seconds, and the client begins the next one. What is silent is found long before: this is for what
/// stands between the two and keeps a connection open that leads nowhere.
pub(super) const WATCH_SECONDS: u32 = 80;

/// A connection that is quiet for so long is asked for a sign of life by the operating system, so often, and is given up if the other side
/// confirms nothing for `UNCONFIRMED`: a dozen seconds after its last byte at the latest.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEP_ALIVE_RETRIES: u32 = 2;
#[cfg(target_os = "linux")]
const UNCONFIRMED: Duration = Duration::from_secs(10);

/// Name under which our fields are managed.
pub(super) const FIELD_MANAGER: &str = "clingfish";

/// The API server cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a service account.
    #[error("no Kubernetes API server is known: {0}; run in a pod with a service account, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    /// The configuration cannot be used.
    #[error("the configuration of the Kubernetes client cannot be used: {0}")]
    Client(#[from] kube::Error),
}

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No answer in time.
    #[error("no answer within {CALL_DEADLINE:?}")]
    Deadline,
    /// The API server or the connection refused.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// What another one asked as well has failed.
    #[error(transparent)]
    Shared(#[from] Arc<Self>),
}

/// A client for the cluster that KUBECONFIG or the pod's service account names. Back-off is the caller's: a status must not wait in a queue of
/// retries while a newer one is known.
///
/// # Errors
/// No configuration is found, or it cannot be used.
pub(super) async fn connect() -> Result<Client, ConnectError> {
    let mut config = Config::infer().await?;
    config.default_retry = false;
    if config.proxy_url.is_some() {
        // Says that there is no support for proxies.
        return Ok(Client::try_from(config)?);
    }
    let connections = legacy::Builder::new(TokioExecutor::new()).build(config.rustls_https_connector_with_connector(connector())?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service::<legacy::Client<_, Body>>(connections);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// Each watch has a connection of its own, since the client speaks HTTP/1.1: so each must be found out by itself.
fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    // The scheme is https.
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CALL_DEADLINE));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEP_ALIVE_AFTER));
    connector.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEP_ALIVE_RETRIES));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNCONFIRMED));
    connector
}

/// A call with a deadline.
///
/// # Errors
/// The call's own, or `CallError::Deadline`.
pub(super) async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    timeout(CALL_DEADLINE, call).await.map_err(|_| CallError::Deadline)?.map_err(CallError::Api)
}

/// An error with its causes, each said once: kube's own words often hold nothing but where it happened. An answer that cannot be decoded is not
/// quoted, and some errors quote their causes: it may be a Secret.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> Message {
    let errors = || std::iter::successors(Some(error), |error| error.source());
    if let Some(error) = errors().find_map(|error| error.downcast_ref::<serde_json::Error>()) {
        return format!("the answer cannot be decoded: line {}, column {}", error.line(), error.column()).into();
    }
    // The API server's own sentence; kube's words for it hold the whole answer twice.
    if let Some(said) = errors().find_map(api_message) {
        return said.into();
    }
    let words =
        errors().map(ToString::to_string).reduce(|text, words| if text.ends_with(&words) { text } else { format!("{text}: {words}") });
    words.unwrap_or_default().into()
}

fn api_message<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    let error = match error.downcast_ref::<CallError>() {
        Some(CallError::Api(error)) => error,
        Some(CallError::Shared(error)) => return api_message(&**error),
        Some(CallError::Deadline) => return None,
        None => error.downcast_ref::<kube::Error>()?,
    };
    let kube::Error::Api(status) = error else { return None };
    (!status.message.is_empty()).then_some(&*status.message)
}

// === impl CallError ===

impl CallError {
    /// The HTTP status of the API server's refusal.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            Self::Shared(error) => error.code(),
            Self::Api(_) | Self::Deadline => None,
        }
    }

    /// Whether the API server refuses the call for good: trying again alone does not help. Not so where somebody else was faster, or where it is
    /// busy.
    pub(super) fn is_refusal(&self) -> bool {
        self.code().is_some_and(|code| (400..500).contains(&code) && !matches!(code, 404 | 408 | 409 | 429))
            && !self.is_for_a_terminating_namespace()
    }

    /// Whether nothing can be created because the namespace is being deleted: a refusal with the code of a missing right.
    pub(super) fn is_for_a_terminating_namespace(&self) -> bool {
        let Self::Api(kube::Error::Api(status)) = self else { return false };
        status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_api_servers_own_words() {
        let message = "services \"a\" is forbidden: exceeded quota: team";
        let status = |code: u16| Status { message: message.into(), reason: "Forbidden".into(), code, ..Status::default() };
        for (code, is_refusal) in [(403, true), (422, true), (404, false), (409, false), (429, false), (500, false)] {
            let error = CallError::Api(kube::Error::Api(Box::new(status(code))));
            assert_eq!((chain(&error).as_str(), error.is_refusal()), (message, is_refusal), "{code}");
        }
        assert_eq!(chain(&kube::Error::Api(Box::new(status(403)))).as_str(), message);
        assert!(!CallError::Deadline.is_refusal());
    }
}
