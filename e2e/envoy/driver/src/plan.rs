//! The plan: what to send where, written by the Python side.
//!
//! Little endian. A text header of lines, ended by an empty line: `subject ADDRESS ADDRESS`, `reference ADDRESS ADDRESS`
//! (each proxy's listeners, in one order), `lane IP h1|h2` for each source address, `case NAME` for each case; then a record a
//! request: listener u8, flags u8 (1: no key, the host is random), lane u16, case u16, length u32, the request's bytes.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// One request, to be sent to both proxies.
pub struct Request {
    pub listener: usize,
    pub keyless: bool,
    pub case: usize,
    pub bytes: Vec<u8>,
}

/// What a client speaks.
#[derive(Clone, Copy)]
pub enum Protocol {
    Http1,
    /// In clear text, with prior knowledge.
    Http2,
}

/// A client address with its requests, which are sent in order.
pub struct Lane {
    pub source: IpAddr,
    pub protocol: Protocol,
    pub requests: Vec<Request>,
}

/// All that is to be sent.
pub struct Plan {
    pub subject: Vec<SocketAddr>,
    pub reference: Vec<SocketAddr>,
    pub cases: Vec<String>,
    pub lanes: Vec<Lane>,
}

/// Reads a plan file.
pub fn read(file: &str) -> io::Result<Plan> {
    parse(&std::fs::read(file)?).ok_or_else(|| io::Error::other("not a plan"))
}

fn parse(bytes: &[u8]) -> Option<Plan> {
    let end = crate::backends::find(bytes, b"\n\n")?;
    let header = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut plan = Plan { subject: Vec::new(), reference: Vec::new(), cases: Vec::new(), lanes: Vec::new() };
    for line in header.lines() {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "subject" => plan.subject = addresses(rest)?,
            "reference" => plan.reference = addresses(rest)?,
            "lane" => plan.lanes.push(lane(rest)?),
            "case" => plan.cases.push(rest.to_owned()),
            _ => return None,
        }
    }
    let mut rest = bytes.get(end + 2..)?;
    while !rest.is_empty() {
        let (record, after) = rest.split_at_checked(10)?;
        let length = u32::from_le_bytes(record.get(6..10)?.try_into().ok()?) as usize;
        let (body, after) = after.split_at_checked(length)?;
        let lane = usize::from(u16::from_le_bytes(record.get(2..4)?.try_into().ok()?));
        plan.lanes.get_mut(lane)?.requests.push(Request {
            listener: usize::from(*record.first()?),
            keyless: record.get(1)? & 1 == 1,
            case: usize::from(u16::from_le_bytes(record.get(4..6)?.try_into().ok()?)),
            bytes: body.to_vec(),
        });
        rest = after;
    }
    Some(plan)
}

fn addresses(text: &str) -> Option<Vec<SocketAddr>> {
    text.split(' ').map(|word| word.parse().ok()).collect()
}

fn lane(text: &str) -> Option<Lane> {
    let (source, protocol) = text.split_once(' ')?;
    let protocol = match protocol {
        "h1" => Protocol::Http1,
        "h2" => Protocol::Http2,
        _ => return None,
    };
    Some(Lane { source: source.parse().ok()?, protocol, requests: Vec::new() })
}
