//! The state of a client's connection: its streams, its windows, and what waits to be written. The connection's task and those of its streams
//! share it; all of them run on one thread.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;

use crate::proxy::{
    state::conn::Conn,
    wire::{
        frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_HEAD, GOAWAY, HEADERS, RST_STREAM, WINDOW_UPDATE, frame_head},
        hpack::Encoder,
        reason::Reason,
    },
};

use super::{
    conduct::Conduct,
    cut::Cut,
    out::Out,
    stream::Stream,
    window::{DEFAULT, LARGEST, ReceiveWindow},
};

/// Bytes that may wait to be written before streams wait with more.
const OUT_BYTES: usize = 64 * 1024;
/// The largest frame that is sent, whatever the client takes: a larger one would keep other streams waiting.
const LARGEST_SENT: usize = 64 * 1024;
/// The largest frame that every client takes (RFC 9113 section 4.2).
const USUAL_FRAME: usize = 16 * 1024;
/// Streams that are remembered after the gateway has reset them: what the client sent before it knew is passed over.
const REMEMBERED: usize = 128;

/// A client's connection.
#[derive(Debug)]
pub(super) struct Session {
    conn: Rc<Conn>,
    pub(super) conduct: Conduct,
    /// In the order of their ids.
    streams: RefCell<Vec<Rc<Stream>>>,
    /// Streams that the gateway has reset, the newest last.
    reset: RefCell<VecDeque<u32>>,
    out: RefCell<Out>,
    encoder: RefCell<Encoder>,
    receive: ReceiveWindow,
    /// What the client's window lets pass, of all streams together.
    send_window: Cell<i64>,
    /// The window that a stream begins with.
    stream_send_window: Cell<i64>,
    largest_frame: Cell<usize>,
    /// A stream waits for window or room.
    some_wait: Cell<bool>,
    /// The connection's task is at work, or woken.
    is_awake: Cell<bool>,
}

/// The client has made a window larger than any may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowOverflow;

// === impl Session ===

impl Session {
    /// A connection whose client may send this much at once.
    pub(super) fn new(conn: Rc<Conn>, window: u32) -> Self {
        Self {
            conn,
            conduct: Conduct::new(),
            streams: RefCell::default(),
            reset: RefCell::default(),
            out: RefCell::default(),
            encoder: RefCell::new(Encoder::new()),
            receive: ReceiveWindow::new(DEFAULT, window),
            send_window: Cell::new(i64::from(DEFAULT)),
            stream_send_window: Cell::new(i64::from(DEFAULT)),
            largest_frame: Cell::new(USUAL_FRAME),
            some_wait: Cell::new(false),
            is_awake: Cell::new(true),
        }
    }

    /// What waits to be written.
    pub(super) fn out(&self) -> &RefCell<Out> {
        &self.out
    }

    /// Whether the connection's task is at work: it need not be woken.
    pub(super) fn set_awake(&self, is_awake: bool) {
        self.is_awake.set(is_awake);
    }

    /// Wakes the connection's task.
    pub(super) fn wake(&self) {
        if !self.is_awake.replace(true) {
            self.conn.wake();
        }
    }

    // Streams.

    /// Streams whose tasks have not ended.
    pub(super) fn open_streams(&self) -> usize {
        self.streams.borrow().len()
    }

    /// A stream whose task has not ended.
    pub(super) fn find(&self, id: u32) -> Option<Rc<Stream>> {
        let streams = self.streams.borrow();
        let at = streams.binary_search_by_key(&id, |stream| stream.id).ok()?;
        streams.get(at).cloned()
    }

    /// A stream begins, with an id above all earlier ones.
    pub(super) fn open(&self, id: u32, receive: ReceiveWindow, announced: Option<u64>, ended: bool) -> Rc<Stream> {
        let stream = Rc::new(Stream::new(id, receive, self.stream_send_window.get(), announced, ended));
        self.streams.borrow_mut().push(Rc::clone(&stream));
        stream
    }

    /// The task of a stream has ended.
    pub(super) fn close(&self, stream: &Stream) {
        let mut streams = self.streams.borrow_mut();
        if let Ok(at) = streams.binary_search_by_key(&stream.id, |stream| stream.id) {
            streams.remove(at);
        }
        let is_last = streams.is_empty();
        drop(streams);
        self.give(None, stream.unwant());
        if is_last {
            self.wake();
        }
    }

    /// Ends all streams: the connection is no more.
    pub(super) fn end_streams(&self) {
        self.streams.borrow().iter().for_each(|stream| stream.end(Cut::Gone));
    }

    /// Makes the streams' windows of what the client may send smaller or larger.
    pub(super) fn correct_receive_windows(&self, by: i64) {
        self.streams.borrow().iter().for_each(|stream| stream.receive.correct(by));
    }

    /// Whether the gateway has reset this stream of late.
    pub(super) fn was_reset(&self, id: u32) -> bool {
        self.reset.borrow().contains(&id)
    }

    // What comes.

    /// So much data has come, whichever stream it is for; whether it was allowed.
    pub(super) fn take(&self, length: usize) -> bool {
        self.receive.take(length)
    }

    /// So much data was read, of a stream that may send more or of another.
    pub(super) fn give(&self, stream: Option<&Stream>, length: usize) {
        if let Some(more) = self.receive.give(length) {
            self.window_update(0, more);
        }
        if let Some(stream) = stream.filter(|stream| !stream.client_ended() && stream.cut().is_none())
            && let Some(more) = stream.receive.give(length)
        {
            self.window_update(stream.id, more);
        }
    }

    fn window_update(&self, stream: u32, more: u32) {
        self.frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }

    /// The client takes so much more, of one stream or of all together.
    ///
    /// # Errors
    /// The window would be larger than any.
    pub(super) fn grant(&self, stream: Option<&Stream>, more: u32) -> Result<(), WindowOverflow> {
        let window = stream.map_or(&self.send_window, |stream| &stream.send_window);
        let larger = window.get() + i64::from(more);
        if larger > LARGEST {
            return Err(WindowOverflow);
        }
        window.set(larger);
        match stream {
            Some(stream) if stream.waits.get() => stream.wake_writer(),
            Some(_) => {}
            None => self.wake_waiting(),
        }
        Ok(())
    }

    /// The window that the client's streams begin with is another one; those that are there change with it.
    ///
    /// # Errors
    /// One would be larger than any.
    pub(super) fn set_stream_send_window(&self, window: i64) -> Result<(), WindowOverflow> {
        let by = window - self.stream_send_window.replace(window);
        for stream in self.streams.borrow().iter() {
            let changed = stream.send_window.get() + by;
            if changed > LARGEST {
                return Err(WindowOverflow);
            }
            stream.send_window.set(changed);
        }
        self.wake_waiting();
        Ok(())
    }

    /// The largest frame that the client takes.
    pub(super) fn set_largest_frame(&self, length: usize) {
        self.largest_frame.set(length.min(LARGEST_SENT));
    }

    /// The size of the table that the client remembers fields in.
    pub(super) fn set_table_size(&self, bytes: usize) {
        self.encoder.borrow_mut().resize(bytes);
    }

    // What leaves.

    /// Wakes the streams that wait for window or room.
    pub(super) fn wake_waiting(&self) {
        if self.some_wait.replace(false) {
            self.streams.borrow().iter().filter(|stream| stream.waits.get()).for_each(|stream| stream.wake_writer());
        }
    }

    /// Wakes the streams that wait for room, if there is some again.
    pub(super) fn wrote(&self) {
        if self.some_wait.get() && self.out.borrow().queued() < OUT_BYTES {
            self.wake_waiting();
        }
    }

    /// Bytes that a stream may hand over now, at least 1.
    pub(super) fn poll_room(&self, stream: &Stream) -> Poll<usize> {
        let room = OUT_BYTES.saturating_sub(self.out.borrow().queued());
        let window = stream.send_window.get().min(self.send_window.get());
        match usize::try_from(window).unwrap_or(0).min(room) {
            0 => {
                stream.waits.set(true);
                self.some_wait.set(true);
                Poll::Pending
            }
            some => Poll::Ready(some),
        }
    }

    /// Adds a frame.
    pub(super) fn frame(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.out.borrow_mut().gather(|out| {
            out.extend_from_slice(&frame_head(kind, flags, stream, payload.len()));
            out.extend_from_slice(payload);
        });
        self.wake();
    }

    /// Ends a stream at once.
    pub(super) fn reset(&self, id: u32, reason: Reason) {
        self.frame(RST_STREAM, 0, id, &reason.0.to_be_bytes());
        let mut reset = self.reset.borrow_mut();
        if reset.len() >= REMEMBERED {
            reset.pop_front();
        }
        reset.push_back(id);
    }

    /// Tells the client that no stream above this one will be served.
    pub(super) fn go_away(&self, last: u32, reason: Reason) {
        let [l, r] = [last, reason.0].map(u32::to_be_bytes);
        self.frame(GOAWAY, 0, 0, &[l, r].concat());
    }

    /// Adds data of a stream, no more than `poll_room` said.
    pub(super) fn data(&self, stream: &Stream, mut data: Bytes, ends: bool) {
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        stream.send_window.set(stream.send_window.get() - length);
        self.send_window.set(self.send_window.get() - length);
        let mut out = self.out.borrow_mut();
        loop {
            let piece = data.split_to(data.len().min(self.largest_frame.get()));
            let flags = if ends && data.is_empty() { END_STREAM } else { 0 };
            out.gather(|out| out.extend_from_slice(&frame_head(DATA, flags, stream.id, piece.len())));
            out.add_piece(piece);
            if data.is_empty() {
                break;
            }
        }
        drop(out);
        self.wake();
    }

    /// Adds a header block of a stream.
    pub(super) fn block(&self, stream: u32, ends: bool, encode: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let end_stream = if ends { END_STREAM } else { 0 };
        self.out.borrow_mut().gather(|out| {
            let start = out.len();
            out.extend_from_slice(&[0; FRAME_HEAD]);
            let mut encoder = self.encoder.borrow_mut();
            encoder.begin(out);
            encode(&mut encoder, out);
            let block = start + FRAME_HEAD;
            let (length, most) = (out.len() - block, self.largest_frame.get());
            let flags = end_stream | if length <= most { END_HEADERS } else { 0 };
            if let Some(head) = out.get_mut(start..block) {
                head.copy_from_slice(&frame_head(HEADERS, flags, stream, length.min(most)));
            }
            if length > most {
                continue_block(out, block + most, stream, most);
            }
        });
        self.wake();
    }
}

/// Puts what is behind `at`, the rest of a header block, into frames of its own.
fn continue_block(out: &mut Vec<u8>, at: usize, stream: u32, most: usize) {
    let rest = out.split_off(at);
    let mut pieces = rest.chunks(most).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        out.extend_from_slice(&frame_head(CONTINUATION, flags, stream, piece.len()));
        out.extend_from_slice(piece);
    }
}
