//! An upstream that follows a script.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use super::{PATIENCE, client::header};

/// A scripted upstream on a port of its own.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

/// One connection as its script sees it.
pub(crate) struct Conversation {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    state: Arc<State>,
    /// Which connection to this upstream it is, from 0.
    pub(crate) number: usize,
}

impl Upstream {
    /// Runs the script for every connection, each on a thread of its own.
    pub(crate) fn start(script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, script)
    }

    pub(crate) fn on(listener: TcpListener, script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let number = shared.connections.fetch_add(1, SeqCst);
                shared.open.fetch_add(1, SeqCst);
                let mut conversation = Conversation { stream, buffer: Vec::new(), state: Arc::clone(&shared), number };
                let script = Arc::clone(&script);
                thread::spawn(move || {
                    script(&mut conversation);
                    let _ = conversation.stream.shutdown(Shutdown::Both);
                    conversation.state.open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { address, state }
    }

    /// Answers every request with 200 and this body.
    pub(crate) fn echo(body: &'static str) -> Self {
        Self::start(move |conversation| {
            while conversation.request().is_some() {
                conversation.reply(body);
            }
        })
    }

    /// Answers every request with these bytes.
    pub(crate) fn answering(bytes: &'static str) -> Self {
        Self::start(move |conversation| {
            while conversation.request().is_some() {
                conversation.send(bytes);
            }
        })
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// Connections whose script has not ended.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(SeqCst)
    }

    /// Heads (and bodies) of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> String {
        self.requests().pop().expect("a request")
    }
}

impl Conversation {
    /// The next request with its body as sent; `None` once the other side has closed.
    pub(crate) fn request(&mut self) -> Option<String> {
        let mut request = self.request_head()?;
        if header(&request, "transfer-encoding").is_some() {
            let end = self.fill_until(b"0\r\n")?;
            let rest = self.take(end);
            request += &rest;
            loop {
                let end = self.fill_until(b"\r\n")?;
                let line = self.take(end);
                request += &line;
                if line == "\r\n" {
                    break;
                }
            }
        } else if let Some(length) = header(&request, "content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length {
                self.fill()?;
            }
            let body = self.take(length);
            request += &body;
        }
        self.state.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// The next request's head alone; it is not recorded.
    pub(crate) fn request_head(&mut self) -> Option<String> {
        let end = self.fill_until(b"\r\n\r\n")?;
        Some(self.take(end))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub(crate) fn reply(&mut self, body: &str) {
        self.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    }

    /// Reads until the other side closes.
    pub(crate) fn until_closed(&mut self) -> Vec<u8> {
        while self.fill().is_some() {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads until at least this many bytes are there, and takes what is there.
    pub(crate) fn at_least(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Exactly this many bytes; `None` once the other side has closed.
    pub(crate) fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// Notes a request, as `request` does.
    pub(crate) fn note(&self, request: String) {
        self.state.requests.lock().unwrap().push(request);
    }

    fn take(&mut self, length: usize) -> String {
        String::from_utf8_lossy(&self.buffer.drain(..length).collect::<Vec<_>>()).into_owned()
    }

    fn fill_until(&mut self, mark: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return Some(at + mark.len());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) | Err(_) => None,
            Ok(length) => {
                self.buffer.extend(&chunk[..length]);
                Some(())
            }
        }
    }
}
