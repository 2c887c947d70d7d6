//! One keep-alive client connection to a proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A proxy that is silent for so long is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a proxy answered.
pub struct Answer {
    pub status: u16,
    /// `ip:port` of the backend; empty for the proxy's own answers.
    pub backend: String,
    pub set_cookies: Vec<String>,
    /// The client's end of the connection, which a generated cookie depends on.
    pub client: SocketAddr,
}

/// A connection that opens itself when it is needed.
pub struct Connection {
    source: IpAddr,
    target: SocketAddr,
    open: Option<Open>,
}

struct Open {
    stream: TcpStream,
    client: SocketAddr,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn new(source: IpAddr, target: SocketAddr) -> Self {
        Self { source, target, open: None }
    }

    /// The proxy's end.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Sends one request and reads its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        let reused = self.open.is_some();
        match self.attempt(request).await {
            // A proxy may close an idle connection at any time.
            Err(error) if reused && error.kind() != io::ErrorKind::TimedOut => self.attempt(request).await,
            result => result,
        }
    }

    async fn attempt(&mut self, request: &[u8]) -> io::Result<Answer> {
        // Taken out, so that a failed exchange leaves no half-read connection behind.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::connect(self.source, self.target).await?,
        };
        let (answer, keep) = tokio::time::timeout(PATIENCE, open.exchange(request))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}")))??;
        if keep {
            self.open = Some(open);
        }
        Ok(answer)
    }
}

impl Open {
    async fn connect(source: IpAddr, target: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        let stream = socket.connect(target).await?;
        stream.set_nodelay(true)?;
        let client = stream.local_addr()?;
        Ok(Self { stream, client, buffer: Vec::with_capacity(2048) })
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<(Answer, bool)> {
        self.stream.write_all(request).await?;
        let end = loop {
            if let Some(end) = crate::backends::find(&self.buffer, b"\r\n\r\n") {
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
