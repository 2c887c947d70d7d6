//! An HTTP/1.1 client on one connection.

use std::{collections::HashSet, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    pub local: SocketAddr,
    remote: SocketAddr,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Client {
    pub async fn connect(remote: SocketAddr) -> Self {
        Self::try_connect(remote).await.unwrap()
    }

    pub async fn try_connect(remote: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(remote).await?;
        let local = stream.local_addr()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender, local, remote })
    }

    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, "").await.unwrap()
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer, hyper::Error> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().map(|(name, _)| *name).collect::<HashSet<_>>().contains("host") {
            request = request.header("host", self.remote.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

impl Answer {
    /// The pod that answered.
    pub fn pod(&self) -> Option<&str> {
        self.header("x-pod")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// A header as the pod saw it.
    pub fn seen(&self, name: &str) -> Vec<String> {
        let seen: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        let values = seen["headers"][name].as_array().cloned().unwrap_or_default();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }
}
