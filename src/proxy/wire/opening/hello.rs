//! The ClientHello of a connection that may be somebody else's to answer: read for its server name, and kept by the caller.

use std::{io, sync::Arc};

use tokio_rustls::rustls::server::Acceptor;

use crate::snapshot::lower_case;

/// Most bytes of a ClientHello with its records' heads (rustls takes no larger one).
pub const MAX_HELLO: usize = 64 * 1024;

/// Reads a ClientHello, piece by piece.
#[derive(Default)]
pub struct HelloReader {
    acceptor: Acceptor,
    seen: usize,
}

/// What the pieces so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloProgress {
    /// The beginning of a ClientHello.
    Incomplete,
    /// All of it, with the name that the client asks for, in lower case.
    Complete(Option<Arc<str>>),
}

impl HelloReader {
    /// Takes in what came next. After `Complete` and after an error there is nothing more to hand in.
    ///
    /// # Errors
    /// Why it is no ClientHello, as rustls says it.
    pub fn take(&mut self, mut news: &[u8]) -> io::Result<HelloProgress> {
        self.seen = self.seen.saturating_add(news.len());
        while !news.is_empty() {
            self.acceptor.read_tls(&mut news)?;
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let server_name = accepted.client_hello().server_name().map(|name| lower_case(name).into());
                    return Ok(HelloProgress::Complete(server_name));
                }
                Err((error, _alert)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        if self.seen > MAX_HELLO { Err(io::ErrorKind::InvalidData.into()) } else { Ok(HelloProgress::Incomplete) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of a handshake with so many bytes of a ClientHello that says it has the most that there may be.
    fn record(begins: bool, length: u16) -> Vec<u8> {
        let message: &[u8] = if begins { &[1, 0, 0xff, 0xff] } else { &[] };
        let rest = vec![0; usize::from(length) - message.len()];
        [&[22, 3, 1][..], &length.to_be_bytes(), message, &rest].concat()
    }

    #[test]
    fn a_hello_without_end_is_refused() {
        let mut reader = HelloReader::default();
        let mut taken = 0;
        let refused = loop {
            match reader.take(&record(taken == 0, 1000)) {
                Ok(progress) => assert_eq!(progress, HelloProgress::Incomplete),
                Err(error) => break error,
            }
            taken += 1005;
            assert!(taken <= MAX_HELLO, "{taken} bytes, and more are waited for");
        };
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_no_tls_is_refused_at_once() {
        assert!(HelloReader::default().take(b"GET / HTTP/1.1\r\n\r\n").is_err());
    }
}
