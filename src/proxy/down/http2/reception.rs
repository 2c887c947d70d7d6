//! What comes from an HTTP/2 client: its frames, one after the other (RFC 9113 sections 4 and 6).

use std::{collections::VecDeque, ops::Range, rc::Rc};

use bytes::Bytes;

use crate::proxy::{
    state::config::Limits,
    wire::{
        frames::{
            ACK, CONTINUATION, DATA, FRAME_HEAD, Frame, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        },
        hpack::{Decoder, DecodingError},
        read_buffer::ReadBuffer,
        reason::Reason,
    },
};

use super::{
    cut::Cut,
    head::{self, Head},
    session::{Session, WindowOverflow},
    stream::{Misfit, Stream},
    window::{DEFAULT, LARGEST, ReceiveWindow},
};

/// What a client begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a frame may carry at most, without a setting of ours (RFC 9113 section 4.2).
pub(super) const LARGEST_FRAME: usize = 16 * 1024;
/// Pieces up to this size are copied: else each would keep the memory of a whole read.
const COPIED_BYTES: usize = 4 * 1024;
/// Times that a client has passed over streams which are remembered.
const REMEMBERED: usize = 16;
/// What the ping behind the first GOAWAY carries.
pub(super) const FAREWELL: [u8; 8] = *b"farewell";

/// Settings of the client (RFC 9113 section 6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What a client has sent so far, as far as the next frame depends on it.
#[derive(Debug)]
pub(super) struct Reception {
    read: ReadBuffer,
    state: State,
}

#[derive(Debug)]
struct State {
    decoder: Decoder,
    /// A header block that has begun and not ended.
    block: Option<Block>,
    begun: Begun,
    /// The last stream that the client has opened.
    last_stream: u32,
    /// Streams below it that the client has passed over, the last ones: they can be opened no more.
    passed_over: VecDeque<Range<u32>>,
    /// Streams above this one are not served: the client was told so.
    last_served: u32,
    /// The client has answered the ping behind the first GOAWAY.
    took_leave: bool,
    /// It has acknowledged our settings.
    knows_settings: bool,
    streams: usize,
    stream_window: u32,
    head_bytes: usize,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    No,
    Preface,
    Settings,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    ends_stream: bool,
    bytes: Vec<u8>,
}

/// What has come.
#[derive(Debug)]
pub(super) enum Step {
    /// Less than a frame.
    Incomplete,
    /// A frame that is done with.
    Done,
    /// A request.
    Opened(u32, Box<Head>, bool),
    /// What is no request: its stream was reset.
    Refused(Reason),
}

// === impl Reception ===

impl Reception {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            read: ReadBuffer::default(),
            state: State {
                decoder: Decoder::new(),
                block: None,
                begun: Begun::No,
                last_stream: 0,
                passed_over: VecDeque::new(),
                last_served: u32::MAX,
                took_leave: false,
                knows_settings: false,
                streams: usize::try_from(limits.http2_streams).unwrap_or(usize::MAX),
                stream_window: limits.http2_stream_window,
                head_bytes: limits.head_bytes,
            },
        }
    }

    /// Where what comes is read to.
    pub(super) fn buffer(&mut self) -> &mut ReadBuffer {
        &mut self.read
    }

    /// Whether the preface has come.
    pub(super) fn has_begun(&self) -> bool {
        self.state.begun != Begun::No
    }

    /// Whether a frame or a header block has begun and not ended.
    pub(super) fn is_within(&self) -> bool {
        self.state.block.is_some() || !self.read.is_empty()
    }

    /// Bytes of a header block that has begun and not ended, those included that the frame at hand has announced.
    pub(super) fn open_head(&self) -> usize {
        let open = self.state.block.as_ref().map_or(0, |block| block.bytes.len());
        let announced =
            Frame::parse(self.read.as_slice()).filter(|frame| frame.is_of_head()).map_or(0, |frame| frame.length.min(LARGEST_FRAME));
        open + announced
    }

    /// The last stream that the client has opened.
    pub(super) fn last_stream(&self) -> u32 {
        self.state.last_stream
    }

    /// Whether the client knows that it is to come back on another connection.
    pub(super) fn took_leave(&self) -> bool {
        self.state.took_leave
    }

    /// No stream is served but those that have begun.
    pub(super) fn serve_no_more(&mut self) {
        self.state.last_served = self.state.last_stream;
    }

    /// Gives memory back that a resting connection does not need.
    pub(super) fn release(&mut self) {
        if self.read.is_empty() {
            self.read.release();
        }
        self.state.decoder.release();
    }

    /// Takes the next frame in.
    ///
    /// # Errors
    /// The connection ends.
    pub(super) fn step(&mut self, session: &Session) -> Result<Step, Reason> {
        if self.state.begun == Begun::No {
            return self.begin();
        }
        let Some(frame) = Frame::parse(self.read.as_slice()) else { return Ok(Step::Incomplete) };
        if frame.length > LARGEST_FRAME {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let Some(payload) = self.read.as_slice().get(FRAME_HEAD..FRAME_HEAD + frame.length) else { return Ok(Step::Incomplete) };
        session.conduct.received(frame);
        self.state.check_order(frame)?;
        if frame.kind == DATA {
            let (before, data) = unpadded(frame, payload)?;
            self.read.skip(FRAME_HEAD + before);
            let piece = if data <= COPIED_BYTES {
                let piece = Bytes::copy_from_slice(self.read.as_slice().get(..data).unwrap_or_default());
                self.read.skip(data);
                piece
            } else {
                self.read.take(data as u64)
            };
            self.read.skip(frame.length - before - data);
            return self.state.data(frame, piece, session);
        }
        let step = self.state.frame(frame, payload, session);
        self.read.skip(FRAME_HEAD + frame.length);
        step
    }

    fn begin(&mut self) -> Result<Step, Reason> {
        let come = self.read.as_slice();
        let compared = come.len().min(PREFACE.len());
        if come.get(..compared) != PREFACE.get(..compared) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if compared < PREFACE.len() {
            return Ok(Step::Incomplete);
        }
        self.read.skip(PREFACE.len());
        self.state.begun = Begun::Preface;
        Ok(Step::Done)
    }
}

/// Where the content of a DATA or HEADERS frame begins, and how long it is.
fn unpadded(frame: Frame, payload: &[u8]) -> Result<(usize, usize), Reason> {
    if !frame.is_padded() {
        return Ok((0, payload.len()));
    }
    let padding = usize::from(*payload.first().ok_or(Reason::FRAME_SIZE_ERROR)?);
    let content = payload.len().checked_sub(1 + padding).ok_or(Reason::PROTOCOL_ERROR)?;
    Ok((1, content))
}

/// A number of 31 bits that is all of a frame.
fn number(payload: &[u8]) -> Result<u32, Reason> {
    let bytes: [u8; 4] = payload.try_into().map_err(|_size| Reason::FRAME_SIZE_ERROR)?;
    Ok(u32::from_be_bytes(bytes) & 0x7fff_ffff)
}

// === impl State ===

impl State {
    /// Refuses what may not come now.
    fn check_order(&mut self, frame: Frame) -> Result<(), Reason> {
        if self.begun == Begun::Preface {
            if frame.kind != SETTINGS || frame.is_ack() {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.begun = Begun::Settings;
        }
        let continues = self.block.as_ref().map(|block| block.stream);
        match (frame.kind, continues) {
            (CONTINUATION, Some(stream)) if frame.stream == stream => Ok(()),
            (CONTINUATION, _) | (_, Some(_)) => Err(Reason::PROTOCOL_ERROR),
            (DATA | HEADERS | PRIORITY | RST_STREAM, None) if frame.stream == 0 => Err(Reason::PROTOCOL_ERROR),
            (SETTINGS | PING | GOAWAY, None) if frame.stream != 0 => Err(Reason::PROTOCOL_ERROR),
            (DATA | RST_STREAM | WINDOW_UPDATE, None) if frame.stream > self.last_stream => Err(Reason::PROTOCOL_ERROR),
            (PUSH_PROMISE, None) => Err(Reason::PROTOCOL_ERROR),
            (_, None) => Ok(()),
        }
    }

    fn frame(&mut self, frame: Frame, payload: &[u8], session: &Session) -> Result<Step, Reason> {
        match frame.kind {
            HEADERS => return self.headers(frame, payload, session),
            CONTINUATION => return self.continuation(frame, payload, session),
            PRIORITY => return priority(frame, payload, session),
            RST_STREAM => {
                let bytes: [u8; 4] = payload.try_into().map_err(|_size| Reason::FRAME_SIZE_ERROR)?;
                if let Some(stream) = session.find(frame.stream) {
                    stream.end(Cut::ByClient(Reason(u32::from_be_bytes(bytes))));
                }
            }
            SETTINGS => self.settings(frame, payload, session)?,
            PING => {
                let bytes: [u8; 8] = payload.try_into().map_err(|_size| Reason::FRAME_SIZE_ERROR)?;
                if !frame.is_ack() {
                    session.frame(PING, ACK, 0, &bytes);
                }
                self.took_leave |= frame.is_ack() && bytes == FAREWELL;
            }
            // The client wants no streams of ours, of which there are none. When it has its answers, it closes.
            GOAWAY if payload.len() < 8 => return Err(Reason::FRAME_SIZE_ERROR),
            WINDOW_UPDATE => return window_update(frame, payload, session),
            _ => {}
        }
        Ok(Step::Done)
    }

    fn settings(&mut self, frame: Frame, payload: &[u8], session: &Session) -> Result<(), Reason> {
        if frame.is_ack() {
            if !payload.is_empty() {
                return Err(Reason::FRAME_SIZE_ERROR);
            }
            if !std::mem::replace(&mut self.knows_settings, true) {
                session.correct_receive_windows(i64::from(self.stream_window) - i64::from(self.first_window()));
            }
            return Ok(());
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        for [i1, i2, v1, v2, v3, v4] in settings {
            let value = u32::from_be_bytes([*v1, *v2, *v3, *v4]);
            let size = usize::try_from(value).unwrap_or(usize::MAX);
            match u16::from_be_bytes([*i1, *i2]) {
                HEADER_TABLE_SIZE => session.set_table_size(size),
                ENABLE_PUSH if value > 1 => return Err(Reason::PROTOCOL_ERROR),
                INITIAL_WINDOW_SIZE if i64::from(value) > LARGEST => return Err(Reason::FLOW_CONTROL_ERROR),
                INITIAL_WINDOW_SIZE => {
                    session.set_stream_send_window(i64::from(value)).map_err(|WindowOverflow| Reason::FLOW_CONTROL_ERROR)?;
                }
                MAX_FRAME_SIZE if !(LARGEST_FRAME..1 << 24).contains(&size) => return Err(Reason::PROTOCOL_ERROR),
                MAX_FRAME_SIZE => session.set_largest_frame(size),
                _ => {}
            }
        }
        session.frame(SETTINGS, ACK, 0, &[]);
        Ok(())
    }

    /// The window that a client takes its streams to have: until it knows our settings, what holds without them may be more.
    fn first_window(&self) -> u32 {
        if self.knows_settings { self.stream_window } else { self.stream_window.max(DEFAULT) }
    }

    fn data(&self, frame: Frame, data: Bytes, session: &Session) -> Result<Step, Reason> {
        if !session.take(frame.length) {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        let Some(stream) = open_stream(session, frame.stream) else {
            session.give(None, frame.length);
            return Ok(if session.was_reset(frame.stream) {
                Step::Done
            } else {
                reset(session, frame.stream, None, Reason::STREAM_CLOSED)
            });
        };
        let padding = frame.length - data.len();
        let fault = if stream.receive.take(frame.length) {
            match stream.received(data, frame.ends_stream()) {
                Ok(unwanted) => {
                    session.give(None, unwanted);
                    session.give(Some(&stream), padding);
                    return Ok(Step::Done);
                }
                Err(Misfit::AfterEnd) => Reason::STREAM_CLOSED,
                Err(Misfit::Length) => Reason::PROTOCOL_ERROR,
            }
        } else {
            Reason::FLOW_CONTROL_ERROR
        };
        session.give(None, frame.length);
        Ok(reset(session, frame.stream, Some(&stream), fault))
    }

    fn headers(&mut self, frame: Frame, payload: &[u8], session: &Session) -> Result<Step, Reason> {
        if frame.stream.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let (before, length) = unpadded(frame, payload)?;
        let mut block = payload.get(before..before + length).unwrap_or_default();
        let mut depends_on_itself = false;
        if frame.has_priority() {
            let (priority, rest) = block.split_at_checked(5).ok_or(Reason::FRAME_SIZE_ERROR)?;
            depends_on_itself = names(priority, frame.stream);
            block = rest;
        }
        if depends_on_itself {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if frame.ends_headers() {
            return self.block(frame.stream, frame.ends_stream(), block, session);
        }
        self.block = Some(Block { stream: frame.stream, ends_stream: frame.ends_stream(), bytes: block.to_vec() });
        Ok(Step::Done)
    }

    fn continuation(&mut self, frame: Frame, payload: &[u8], session: &Session) -> Result<Step, Reason> {
        let Some(mut block) = self.block.take() else { return Err(Reason::PROTOCOL_ERROR) };
        block.bytes.extend_from_slice(payload);
        if block.bytes.len() > self.most_of_block() {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if frame.ends_headers() {
            return self.block(block.stream, block.ends_stream, &block.bytes, session);
        }
        self.block = Some(block);
        Ok(Step::Done)
    }

    /// Bytes of a header block that are kept until its end: twice what is served, so that a head in between is answered as any other is
    /// that is too large.
    fn most_of_block(&self) -> usize {
        self.head_bytes.saturating_mul(2).saturating_add(LARGEST_FRAME)
    }

    fn begin_stream(&mut self, id: u32) {
        let first = self.last_stream + 1;
        if id > first + 1 {
            if self.passed_over.len() >= REMEMBERED {
                self.passed_over.pop_front();
            }
            self.passed_over.push_back(first..id);
        }
        self.last_stream = id;
    }

    /// A whole header block has come.
    fn block(&mut self, id: u32, ends: bool, block: &[u8], session: &Session) -> Result<Step, Reason> {
        let undecodable = |DecodingError| Reason::COMPRESSION_ERROR;
        if id <= self.last_stream {
            let trailers = head::read_trailers(&mut self.decoder, block, self.head_bytes).map_err(undecodable)?;
            let Some(stream) = open_stream(session, id) else {
                let is_passed_over = self.passed_over.iter().any(|ids| ids.contains(&id));
                return if is_passed_over {
                    Err(Reason::PROTOCOL_ERROR)
                } else if session.was_reset(id) {
                    Ok(Step::Done)
                } else {
                    Err(Reason::STREAM_CLOSED)
                };
            };
            let fault = match trailers {
                _ if stream.client_ended() => Reason::STREAM_CLOSED,
                Ok(trailers) if ends => match stream.received_trailers(trailers) {
                    Ok(()) => return Ok(Step::Done),
                    Err(Misfit::AfterEnd | Misfit::Length) => Reason::PROTOCOL_ERROR,
                },
                Ok(_) | Err(head::Malformed) => Reason::PROTOCOL_ERROR,
            };
            return Ok(reset(session, id, Some(&stream), fault));
        }
        self.begin_stream(id);
        let head = head::read(&mut self.decoder, block, self.head_bytes).map_err(undecodable)?;
        if id > self.last_served || session.open_streams() >= self.streams {
            session.reset(id, Reason::REFUSED_STREAM);
            return Ok(Step::Done);
        }
        match head {
            Ok(head) if !(ends && head.length.is_some_and(|length| length > 0)) => {
                session.open(id, ReceiveWindow::new(self.first_window(), self.stream_window), head.length, ends);
                Ok(Step::Opened(id, Box::new(head), ends))
            }
            Ok(_) | Err(head::Malformed) => {
                session.reset(id, Reason::PROTOCOL_ERROR);
                Ok(Step::Refused(Reason::PROTOCOL_ERROR))
            }
        }
    }
}

/// A stream that neither side has reset.
fn open_stream(session: &Session, id: u32) -> Option<Rc<Stream>> {
    session.find(id).filter(|stream| stream.cut().is_none())
}

/// Resets a stream for what its client has done.
fn reset(session: &Session, id: u32, stream: Option<&Stream>, reason: Reason) -> Step {
    session.reset(id, reason);
    if let Some(stream) = stream {
        stream.end(Cut::ByClient(reason));
    }
    Step::Done
}

/// Whether what RFC 7540 said of priority names this stream (there section 5.3.1).
fn names(priority: &[u8], stream: u32) -> bool {
    priority.first_chunk().is_some_and(|bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff == stream)
}

fn priority(frame: Frame, payload: &[u8], session: &Session) -> Result<Step, Reason> {
    let reason = match payload.len() {
        5 if names(payload, frame.stream) => Reason::PROTOCOL_ERROR,
        5 => return Ok(Step::Done),
        _ => Reason::FRAME_SIZE_ERROR,
    };
    Ok(reset(session, frame.stream, session.find(frame.stream).as_deref(), reason))
}

fn window_update(frame: Frame, payload: &[u8], session: &Session) -> Result<Step, Reason> {
    let more = number(payload)?;
    if frame.stream == 0 {
        return match session.grant(None, more) {
            _ if more == 0 => Err(Reason::PROTOCOL_ERROR),
            Ok(()) => Ok(Step::Done),
            Err(WindowOverflow) => Err(Reason::FLOW_CONTROL_ERROR),
        };
    }
    let Some(stream) = open_stream(session, frame.stream) else { return Ok(Step::Done) };
    let reason = match session.grant(Some(&stream), more) {
        _ if more == 0 => Reason::PROTOCOL_ERROR,
        Ok(()) => return Ok(Step::Done),
        Err(WindowOverflow) => Reason::FLOW_CONTROL_ERROR,
    };
    Ok(reset(session, frame.stream, Some(&stream), reason))
}
