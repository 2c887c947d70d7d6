//! The proxy in this process before a recorder, and raw clients.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use clingfish::proxy::Running;
use socket2::SockRef;

use super::{recorder::Recorder, support::World};

/// How long a gateway that has to close may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy without TLS, and the upstream of all its routes.
pub(super) struct Scene {
    pub(super) recorder: Recorder,
    pub(super) address: SocketAddr,
    _running: Running,
}

impl Scene {
    pub(super) fn start() -> Self {
        let recorder = Recorder::start();
        let proxy = World::to(&[recorder.address]).start();
        Self { recorder, address: proxy.address(), _running: proxy.running }
    }
}

/// A connection to the proxy.
pub(super) struct Client(TcpStream);

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    /// Nothing came for the time given.
    Quiet,
    /// What was looked for is there.
    Found,
}

impl Client {
    /// Connects, and sends what can be sent: the proxy may close early.
    pub(super) fn send(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).expect("the proxy accepts");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        // Without TIME_WAIT: there are more runs than ports.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        let _ = stream.write_all(bytes);
        Self(stream)
    }

    pub(super) fn finish(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Reads until the proxy closes; panics if it does not.
    pub(super) fn until_closed(&mut self, received: &mut Vec<u8>) {
        assert_eq!(self.read(received, PATIENCE, |_| false), End::Closed, "the proxy neither answers nor closes");
    }

    /// Reads until the proxy closes, the condition holds, or nothing comes for so long.
    pub(super) fn read(&mut self, received: &mut Vec<u8>, patience: Duration, found: impl Fn(&[u8]) -> bool) -> End {
        self.0.set_read_timeout(Some(patience)).expect("a socket");
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.0.read(&mut chunk) {
                Ok(0) => return End::Closed,
                Ok(length) => received.extend_from_slice(&chunk[..length]),
                // libFuzzer's alarm.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return End::Quiet,
                Err(_) => return End::Closed,
            }
            if found(received) {
                return End::Found;
            }
        }
    }
}
