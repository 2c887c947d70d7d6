//! The upstream leg, behind one boundary: get a connection, exchange one request for one response. Whatever speaks to hosts can be
//! replaced here without anybody else noticing.

use std::{io, rc::Rc, sync::Arc};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    snapshot::{Cluster, ConnectionOptions},
    telemetry::ConnectResult,
};

use super::{body::RequestBody, error::ProxyError, pool::Lease, worker::Worker};
use std::net::SocketAddr;

/// Why there is no response.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// Nothing of the request was written: it is handed back.
    NotSent(Box<Request<RequestBody>>),
    /// It was written, wholly or in part.
    Broken(ProxyError),
}

/// Connects to a host of a cluster.
pub(super) async fn connect(worker: &Rc<Worker>, cluster: &Arc<Cluster>, host: u32) -> Result<Lease, ProxyError> {
    let address = cluster.hosts.get(host as usize).map(|host| host.address).ok_or(ProxyError::NoHost)?;
    let connected = dial(worker, address, &cluster.connection).await;
    worker.metrics.upstream_connect(match &connected {
        Ok(_) => ConnectResult::Ok,
        Err(ProxyError::ConnectTimeout) => ConnectResult::TimedOut,
        Err(_) => ConnectResult::Failed,
    });
    let sender = connected?;
    worker.pool.borrow_mut().adopt(cluster, host, sender).ok_or(ProxyError::NoHost)
}

async fn dial(
    worker: &Rc<Worker>,
    address: SocketAddr,
    options: &ConnectionOptions,
) -> Result<http1::SendRequest<RequestBody>, ProxyError> {
    let stream = match timeout(options.connect_timeout, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(ProxyError::Connect)?,
        Err(_) => return Err(ProxyError::ConnectTimeout),
    };
    stream.set_nodelay(true).map_err(ProxyError::Connect)?;
    let mut builder = http1::Builder::new();
    builder.max_header_size(worker.config.limits.head_bytes).max_buf_size(worker.config.buffer_bytes);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| ProxyError::Connect(io::Error::other(error)))?;
    worker.spawn(async move {
        // Whoever waits for an answer is told through the sender.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
    Ok(sender)
}

/// Sends a request and waits for the head of its response; dropping the future closes the connection.
pub(super) async fn exchange(lease: &mut Lease, request: Request<RequestBody>) -> Result<Response<Incoming>, ExchangeError> {
    lease.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
        Some(request) => ExchangeError::NotSent(Box::new(request)),
        None => ExchangeError::Broken(classify(error.into_error())),
    })
}

fn classify(error: hyper::Error) -> ProxyError {
    if error.is_parse() { ProxyError::UpstreamProtocol(error) } else { ProxyError::UpstreamClosed(error) }
}
