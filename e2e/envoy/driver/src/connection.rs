//! One client connection to a proxy, kept as long as the proxy lets it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::answer::Answer;
use crate::plan::Protocol;
use crate::{http1, http2};

/// A proxy that is silent for so long is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that opens itself when it is needed.
pub struct Connection {
    source: IpAddr,
    target: SocketAddr,
    protocol: Protocol,
    open: Option<Open>,
}

enum Open {
    Http1(http1::Open),
    Http2(http2::Open),
}

impl Connection {
    pub fn new(source: IpAddr, target: SocketAddr, protocol: Protocol) -> Self {
        Self { source, target, protocol, open: None }
    }

    /// The proxy's end.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Sends one request, written as HTTP/1.1, and reads its answer.
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
            None => self.connect().await?,
        };
        let exchange = async {
            match &mut open {
                Open::Http1(open) => open.exchange(request).await,
                Open::Http2(open) => open.exchange(request).await.map(|answer| (answer, true)),
            }
        };
        let (answer, keep) = tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}")))??;
        if keep {
            self.open = Some(open);
        }
        Ok(answer)
    }

    async fn connect(&self) -> io::Result<Open> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.source, 0).into())?;
        let stream: TcpStream = socket.connect(self.target).await?;
        stream.set_nodelay(true)?;
        Ok(match self.protocol {
            Protocol::Http1 => Open::Http1(http1::Open::new(stream)?),
            Protocol::Http2 => Open::Http2(http2::Open::new(stream).await?),
        })
    }
}
