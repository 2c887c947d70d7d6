//! An upstream that records what it gets, as the strict parser reads it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use super::strict::{self, Message, Parsed};

/// How often the sockets are looked at.
const PAUSE: Duration = Duration::from_micros(50);

/// The upstream; its thread ends with the process.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What came since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) messages: Vec<Message>,
    /// Bytes that no strict reader takes, and why.
    pub(super) malformed: Vec<(&'static str, String)>,
}

/// The sockets never block, so that whoever asks can read all that is there first.
struct State {
    listener: TcpListener,
    connections: Vec<Connection>,
    seen: Seen,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

// === impl Recorder ===

impl Recorder {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State { listener, connections: Vec::new(), seen: Seen::default() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            loop {
                shared.lock().unwrap_or_else(PoisonError::into_inner).look();
                thread::sleep(PAUSE);
            }
        });
        Self { address, state }
    }

    /// Takes what has arrived.
    pub(super) fn take(&self) -> Seen {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.look();
        std::mem::take(&mut state.seen)
    }
}

// === impl State ===

impl State {
    /// Reads everything that is there.
    fn look(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("a socket");
            stream.set_nodelay(true).expect("a socket");
            self.connections.push(Connection { stream, received: Vec::new() });
        }
        self.connections.retain_mut(|connection| connection.look(&mut self.seen));
    }
}

// === impl Connection ===

impl Connection {
    /// Whether the connection goes on.
    fn look(&mut self, seen: &mut Seen) -> bool {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
            if !self.answer(seen) {
                return false;
            }
        }
    }

    fn answer(&mut self, seen: &mut Seen) -> bool {
        loop {
            match strict::parse(&self.received) {
                Parsed::Message(message, length) => {
                    self.received.drain(..length);
                    let body = if message.method == b"HEAD" { "" } else { "hello" };
                    seen.messages.push(message);
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{body}");
                    if self.stream.write_all(answer.as_bytes()).is_err() {
                        return false;
                    }
                }
                Parsed::Incomplete => return true,
                Parsed::Malformed(why) => {
                    seen.malformed.push((why, String::from_utf8_lossy(&self.received).into_owned()));
                    return false;
                }
            }
        }
    }
}
