//! HTTP/2 with prior knowledge: the same requests, each header line a field of its own.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderName, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use crate::answer::Answer;
use crate::backends::find;

/// An open connection.
pub struct Open {
    send: SendRequest<Bytes>,
    client: SocketAddr,
}

impl Open {
    pub async fn new(stream: TcpStream) -> io::Result<Self> {
        let client = stream.local_addr()?;
        let (send, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // What ends it is seen by the request that was on its way.
            let _ = connection.await;
        });
        Ok(Self { send, client })
    }

    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        let request = parse(request).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the request does not parse"))?;
        let mut send = self.send.clone().ready().await.map_err(io::Error::other)?;
        let (response, _) = send.send_request(request, true).map_err(io::Error::other)?;
        let mut response = response.await.map_err(io::Error::other)?;
        while let Some(data) = response.body_mut().data().await {
            let length = data.map_err(io::Error::other)?.len();
            response.body_mut().flow_control().release_capacity(length).map_err(io::Error::other)?;
        }
        Ok(Answer {
            status: response.status().as_u16(),
            backend: texts(&response, "x-backend").concat(),
            set_cookies: texts(&response, "set-cookie"),
            client: self.client,
        })
    }
}

fn texts<T>(response: &Response<T>, name: &str) -> Vec<String> {
    response.headers().get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// An HTTP/1.1 request head as an HTTP/2 request; its Host becomes the authority.
fn parse(bytes: &[u8]) -> Option<Request<()>> {
    let mut lines = bytes.strip_suffix(b"\r\n\r\n")?.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut start = std::str::from_utf8(lines.next()?).ok()?.split(' ');
    let (method, path) = (start.next()?, start.next()?);
    let mut request = Request::builder().method(method).version(http::Version::HTTP_2);
    let mut authority = None;
    for line in lines {
        let colon = find(line, b":")?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
        if name.eq_ignore_ascii_case(b"host") {
            authority = Some(std::str::from_utf8(value).ok()?);
        } else {
            request = request.header(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
    }
    request.uri(format!("http://{}{path}", authority?)).body(()).ok()
}
