//! A client of the admin port of a running gateway.

use std::io;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection to an admin port.
pub(super) struct AdminClient {
    authority: String,
    sender: SendRequest<Full<Bytes>>,
}

impl AdminClient {
    /// Connects to `HOST:PORT`.
    pub(super) async fn connect(authority: &str) -> Result<Self, String> {
        let unreachable = |error: &dyn std::fmt::Display| {
            format!("the admin port {authority} cannot be reached: {error}; is the gateway running, and is --admin its address?")
        };
        let stream = TcpStream::connect(authority).await.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        tokio::spawn(connection);
        Ok(Self { authority: authority.to_owned(), sender })
    }

    /// Posts a question; status and body of the answer.
    pub(super) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<(StatusCode, Bytes), String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .map_err(|error| error.to_string())?;
        let failed = |error: hyper::Error| format!("the admin port {} does not answer: {}", self.authority, io::Error::other(error));
        self.sender.ready().await.map_err(failed)?;
        let response = self.sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
        Ok((status, body))
    }
}
