//! HTTP/1.1 by hand, so that requests go out byte for byte.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::Answer;
use crate::backends::find;

/// An open connection.
pub struct Open {
    stream: TcpStream,
    client: SocketAddr,
    buffer: Vec<u8>,
}

impl Open {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        let client = stream.local_addr()?;
        Ok(Self { stream, client, buffer: Vec::with_capacity(2048) })
    }

    /// The answer, and whether the connection goes on.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<(Answer, bool)> {
        self.stream.write_all(request).await?;
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.fill().await?;
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no status line"))?;
        let mut answer = Answer { status, backend: String::new(), set_cookies: Vec::new(), client: self.client };
        let (mut length, mut chunked, mut keep) = (0, false, true);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "x-backend" => answer.backend = value.to_owned(),
                "set-cookie" => answer.set_cookies.push(value.to_owned()),
                "content-length" => length = value.parse().map_err(io::Error::other)?,
                "transfer-encoding" => chunked = true,
                "connection" => keep = !value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        if request.starts_with(b"HEAD ") {
            return Ok((answer, keep));
        }
        if chunked {
            // The backends send none: only a proxy's own answer could be, and the next request gets a new connection.
            return Ok((answer, false));
        }
        while self.buffer.len() < length {
            self.fill().await?;
        }
        self.buffer.drain(..length);
        Ok((answer, keep))
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
