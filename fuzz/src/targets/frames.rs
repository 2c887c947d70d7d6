//! Frames of HTTP/2 in; out come whole messages of HTTP/1.1 of one meaning, and the connection ends or lives.

use std::time::Duration;

use super::scene::{Client, End, Scene};

/// The client's preface and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A PING, and its answer.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0tailtail";
const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0tailtail";

/// The type of a GOAWAY frame (RFC 9113 section 6.8).
const GOAWAY: u8 = 7;

/// The largest frame that is filled up, the default of SETTINGS_MAX_FRAME_SIZE.
const LARGEST_FRAME: usize = 16 * 1024;

const PATIENCE: Duration = Duration::from_secs(10);

thread_local! {
    static SCENE: Scene = Scene::start();
}

/// Sends the bytes as frames behind a preface.
pub fn run(data: &[u8]) {
    let Some(frames) = filled_up(data) else { return };
    SCENE.with(|scene| {
        let sent = [PREFACE, &frames, PING].concat();
        let mut client = Client::send(scene.address, &sent);
        let mut received = Vec::new();
        let end = client.read(&mut received, PATIENCE, is_decided);
        assert_ne!(end, End::Quiet, "the proxy neither answers a PING nor closes");
        client.finish();
        client.until_closed(&mut received);
        let seen = scene.recorder.take();
        assert!(seen.malformed.is_empty(), "the upstream got what has more than one meaning: {:?}", seen.malformed);
    });
}

/// Whether the PING is answered, or the connection given up.
fn is_decided(mut received: &[u8]) -> bool {
    while let Some(length) = frame_length(received).filter(|length| *length <= received.len()) {
        let (frame, rest) = received.split_at(length);
        if frame == PONG || frame[3] == GOAWAY {
            return true;
        }
        received = rest;
    }
    false
}

/// The length of a frame with its head; `None` while its head is not there.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let [high, middle, low, _, _, _, _, _, _, ..] = *bytes else { return None };
    Some(9 + usize::from(high) * 65_536 + usize::from(middle) * 256 + usize::from(low))
}

/// The frames, the last one filled up with zeros, so that what follows is a frame of its own; `None` if one is too large for that.
fn filled_up(data: &[u8]) -> Option<Vec<u8>> {
    let (mut frames, mut at) = (data.to_vec(), 0);
    while at < frames.len() {
        frames.resize(frames.len().max(at + 9), 0);
        let length = frame_length(&frames[at..])?;
        if length > 9 + LARGEST_FRAME {
            return None;
        }
        frames.resize(frames.len().max(at + length), 0);
        at += length;
    }
    Some(frames)
}
