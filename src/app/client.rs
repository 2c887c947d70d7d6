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
    /// It has carried an answer: by the next question the gateway may have closed it.
    used: bool,
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
        Ok(Self { authority: authority.to_owned(), sender, used: false })
    }

    /// Posts a question; status and body of the answer. Asked again on a new connection where an idle one was closed meanwhile: no question
    /// changes anything.
    pub(super) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<(StatusCode, Bytes), String> {
        let body = body.into();
        let answer = self.post_once(path, body.clone()).await;
        if answer.is_ok() || !self.used {
            return answer;
        }
        *self = Self::connect(&self.authority).await?;
        self.post_once(path, body).await
    }

    async fn post_once(&mut self, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let failed = |error: hyper::Error| format!("the admin port {} does not answer: {}", self.authority, io::Error::other(error));
        self.sender.ready().await.map_err(failed)?;
        let response = self.sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
        self.used = true;
        Ok((status, body))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers one question on each connection and closes it without announcing that.
    async fn answer_one_each(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"{}") {
                asked.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_idle_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(answer_one_each(listener));
        let mut client = AdminClient::connect(&authority).await.unwrap();
        for _ in 0..3 {
            assert_eq!(client.post("/explain", "{}").await.unwrap(), (StatusCode::OK, "ok".into()));
        }
        server.abort();
        let _ = server.await;
        assert!(client.post("/explain", "{}").await.unwrap_err().contains("cannot be reached"));
    }
}
