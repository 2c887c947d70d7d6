//! A client's socket below TLS: it sees the records that pass, so that what the TLS library keeps of them is charged, and many small ones end
//! the turn of their connection. The library tells neither.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::proxy::{
    state::{activity::Activity, budget::Account},
    wire::poll_budget::PollBudget,
};

/// Length of a record's head (RFC 8446 section 5.1).
const HEAD: usize = 5;

/// What a record of TLS 1.3 takes beside its content: its head, the type of the content and the tag. Those of TLS 1.2 take more.
const OVERHEAD: usize = HEAD + 1 + 16;

/// What the library reads into at the least. It belongs to the connection, and is not charged.
const LEAST: usize = 4 * 1024;

/// Longest record, in whole (RFC 5246 section 6.2.3). What is longer, and has brought no data, is no record in the making.
const LONGEST_RECORD: usize = HEAD + 16 * 1024 + 2048;

/// Most bytes of records that the library gathers for a client that does not read.
const MOST_UNSENT: usize = 64 * 1024;

/// What a handshake keeps beside what the client has sent: keys that are being agreed on, and the certificates on their way.
const HANDSHAKE: usize = 16 * 1024;

/// A client's socket that speaks TLS.
#[derive(Debug)]
pub(in crate::proxy) struct RecordSocket {
    io: TcpStream,
    /// Read already, and handed out before anything else.
    ahead: Bytes,
    activity: Activity,
    records: Records,
    turn: PollBudget,
    held: Account,
    received: Received,
    /// Bytes at most that wait to be sent.
    unsent: usize,
    phase: Phase,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client's hello is read.
    Hello,
    /// Keys are agreed on.
    Handshake,
    /// Data is exchanged.
    Data,
}

/// Finds the ends of records, however their bytes are parted. Pure.
#[derive(Debug, Default)]
struct Records {
    /// Bytes that have come of a head.
    head: usize,
    /// The length that the head names, as far as it has come; then what is still to come of the content.
    left: usize,
    /// Bytes that have come of a record that has not ended.
    begun: usize,
}

/// Estimates what the library keeps of what it was given: never less than that, except for what it reads into at the least. Pure.
#[derive(Debug, Default)]
struct Received {
    /// Bytes of which no data has come out yet.
    unread: usize,
    /// Bytes of the last read.
    last: usize,
    /// Bytes of a record that has not ended.
    begun: usize,
    /// Records that have ended since data came out.
    records: usize,
    /// Data has come out since.
    fruitful: bool,
}

// === impl Records ===

impl Records {
    /// Takes the next bytes, and tells how many records end in them.
    fn pass(&mut self, mut bytes: &[u8]) -> usize {
        let mut ended = 0;
        while let Some((first, rest)) = bytes.split_first() {
            if self.head < HEAD {
                self.head += 1;
                self.begun += 1;
                // Type and version go before the length.
                self.left = if self.head > 3 { self.left << 8 | usize::from(*first) } else { 0 };
                bytes = rest;
            } else {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                self.begun += passed;
                bytes = bytes.get(passed..).unwrap_or_default();
            }
            if self.head == HEAD && self.left == 0 {
                self.head = 0;
                self.begun = 0;
                ended += 1;
            }
        }
        ended
    }
}

// === impl Received ===

impl Received {
    /// So much was read from the socket, in which this many records ended; `begun`: of the one that has not.
    fn came(&mut self, bytes: usize, records: usize, begun: usize) {
        self.unread += bytes;
        self.begun = begun;
        self.last = bytes;
        self.records += records;
        self.fruitful = false;
    }

    /// So much data came out.
    fn went(&mut self, bytes: usize) {
        let overhead = std::mem::take(&mut self.records) * OVERHEAD;
        self.unread = self.unread.saturating_sub(bytes + overhead);
        self.fruitful = true;
    }

    /// No more data is there. If some came out since the last read, nothing is kept of the reads before but a record that has not ended: a message
    /// of the library's own does not go on beyond data.
    fn ran_dry(&mut self) {
        if self.fruitful {
            self.unread = self.unread.min(self.last.max(self.begun));
        }
    }

    /// What counts as kept.
    fn kept(&self) -> usize {
        if self.unread > LEAST { self.unread } else { 0 }
    }
}

// === impl RecordSocket ===

impl RecordSocket {
    /// Wraps a socket whose client is about to shake hands. `held` is charged with what is buffered for TLS.
    pub(in crate::proxy) fn new(io: TcpStream, activity: Activity, held: Account) -> Self {
        Self::rewound(io, Bytes::new(), activity, held)
    }

    /// The same for a socket of which something was read already.
    pub(in crate::proxy) fn rewound(io: TcpStream, ahead: Bytes, activity: Activity, held: Account) -> Self {
        Self {
            io,
            ahead,
            activity,
            records: Records::default(),
            turn: PollBudget::default(),
            held,
            received: Received::default(),
            unsent: 0,
            phase: Phase::Hello,
        }
    }

    /// The client's hello has been read; the costly part begins.
    pub(in crate::proxy) fn handshake_begins(&mut self) {
        self.phase = Phase::Handshake;
        self.charge();
    }

    /// What follows is data.
    pub(in crate::proxy) fn handshake_ended(&mut self) {
        self.phase = Phase::Data;
        self.received.fruitful = true;
        self.received.ran_dry();
        self.charge();
    }

    /// Bytes that may be gathered for the client now.
    pub(in crate::proxy) fn room_to_send(&self) -> usize {
        self.held.room().min(MOST_UNSENT)
    }

    /// The library has taken so many bytes to send, and has some left or not.
    pub(in crate::proxy) fn took(&mut self, bytes: usize, has_left: bool) {
        self.unsent = if has_left { (self.unsent + bytes).min(MOST_UNSENT) } else { 0 };
        self.charge();
    }

    /// So much data came out of what was read; `None`: there is none.
    pub(in crate::proxy) fn gave(&mut self, data: Option<usize>) {
        match data {
            Some(bytes) => self.received.went(bytes),
            None => self.received.ran_dry(),
        }
        self.charge();
    }

    /// The socket itself.
    pub(in crate::proxy) fn get_ref(&self) -> &TcpStream {
        &self.io
    }

    fn charge(&self) {
        let kept = self.received.kept();
        self.activity.set_unread(kept);
        let handshake = if self.phase == Phase::Handshake { HANDSHAKE } else { 0 };
        self.held.set(kept + self.unsent + handshake);
    }

    /// Whether what has come is given up: there is too little memory to wait for the rest of a handshake, or of a message that is longer than
    /// any record. A record in the making may be part of a request that is served.
    fn is_given_up(&self) -> bool {
        let kept = self.received.kept();
        (self.phase != Phase::Data || kept > LONGEST_RECORD) && self.held.cuts(kept)
    }
}

/// Hands out what was read before.
pub(in crate::proxy) fn take_ahead(ahead: &mut Bytes, buffer: &mut ReadBuf<'_>) {
    let length = ahead.len().min(buffer.remaining());
    buffer.put_slice(ahead.get(..length).unwrap_or_default());
    ahead.advance(length);
}

impl AsyncRead for RecordSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn.is_spent(cx) {
            return Poll::Pending;
        }
        if this.is_given_up() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let before = buffer.filled().len();
        let polled = if this.ahead.is_empty() {
            Pin::new(&mut this.io).poll_read(cx, buffer)
        } else {
            take_ahead(&mut this.ahead, buffer);
            Poll::Ready(Ok(()))
        };
        if polled.is_pending() {
            this.turn.reset();
            return polled;
        }
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        let records = this.records.pass(bytes);
        this.turn.spend_records(bytes.len(), records);
        this.received.came(bytes.len(), records, this.records.begun);
        this.charge();
        polled
    }
}

impl AsyncWrite for RecordSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: u16) -> Vec<u8> {
        let mut record = vec![23, 3, 3];
        record.extend(length.to_be_bytes());
        record.resize(HEAD + usize::from(length), 0xff);
        record
    }

    #[test]
    fn records_are_counted_wherever_the_reads_part_them() {
        let bytes = [record(18), record(0), record(300), record(1), record(16_401)].concat();
        for size in [1, 2, 4, 5, 6, 23, 100_000] {
            let mut records = Records::default();
            let ended: usize = bytes.chunks(size).map(|piece| records.pass(piece)).sum();
            assert_eq!(ended, 5, "in pieces of {size}");
            assert_eq!(records.pass(&record(7)[..11]), 0);
            assert_eq!(records.pass(&[0]), 1);
        }
    }

    /// What happens to a connection, one after the other.
    enum Event {
        Came(usize, usize),
        Went(usize),
        Dry,
    }

    #[test]
    fn a_record_in_the_making_is_kept_when_data_of_earlier_ones_comes_out_late() {
        let mut received = Received::default();
        received.came(4096, 1, 4046);
        received.went(24);
        received.came(7964, 0, 12_010);
        received.went(9);
        received.ran_dry();
        assert_eq!(received.kept(), 12_005);
    }

    #[test]
    fn what_has_brought_no_data_is_kept() {
        use Event::{Came, Dry, Went};
        for (events, kept) in [
            // A record in the making: nothing comes out of it.
            (vec![Came(4096, 0), Dry, Came(4096, 0), Dry, Came(4096, 0), Dry], 12_288),
            // It is whole, and half of it was read.
            (vec![Came(4096, 0), Came(12_310, 1), Went(8192)], 8192),
            (vec![Came(4096, 0), Came(12_310, 1), Went(8192), Went(8192)], 0),
            // The read that ended it has brought the beginning of the next.
            (vec![Came(16_000, 0), Dry, Came(16_000, 1), Went(16_384), Dry], 15_594),
            // Many small records at once.
            (vec![Came(23 * 8192, 8192), Went(8192)], 0),
            // Those of TLS 1.2 take more than is counted off.
            (vec![Came(30 * 8192, 8192), Went(8192), Came(30, 1), Went(1), Dry], 0),
            // Messages of the library's own bring no data.
            ((0..20).flat_map(|_| [Came(4096, 1), Dry]).collect(), 81_920),
            ((0..20).flat_map(|_| [Came(4096, 1), Dry]).chain([Came(30, 1), Went(1), Dry]).collect(), 0),
        ] {
            let mut received = Received::default();
            for event in events {
                match event {
                    Came(bytes, records) => received.came(bytes, records, 0),
                    Went(bytes) => received.went(bytes),
                    Dry => received.ran_dry(),
                }
            }
            assert_eq!(received.kept(), kept);
        }
    }
}
