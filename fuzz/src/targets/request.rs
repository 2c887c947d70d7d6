//! Bytes of HTTP/1.1 in; out come whole messages of one meaning, and what a strict reader takes for a message is that message.

use std::time::Duration;

use super::{
    scene::{Client, End, Scene},
    strict::{self, Framing, Message, Parsed},
};

/// Behind every input: a request of its own, or a part of what the input began.
const TAIL: &[u8] = b"GET /tail HTTP/1.1\r\nhost: tail\r\nconnection: close\r\n\r\n";

/// How long the proxy may think about what a strict reader refuses, before the client closes its direction.
const DOUBT: Duration = Duration::from_millis(20);

thread_local! {
    static SCENE: Scene = Scene::start();
}

/// Sends the bytes on a connection of their own.
pub fn run(data: &[u8]) {
    // Another protocol begins with these; it has a target of its own.
    if !b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".starts_with(data.get(..24).unwrap_or(data)) {
        SCENE.with(|scene| check(scene, data));
    }
}

fn check(scene: &Scene, data: &[u8]) {
    let sent = [data, TAIL].concat();
    let (expected, end) = strict::messages(&sent);
    let mut client = Client::send(scene.address, &sent);
    let mut received = Vec::new();
    let patience = match end {
        Parsed::Incomplete => Duration::from_millis(1),
        Parsed::Malformed(_) => DOUBT,
        Parsed::Message(..) => unreachable!("a message is followed by something else"),
    };
    let whole = expected.last().is_some_and(|last| last.target == b"/tail");
    let cut_off = !whole && client.read(&mut received, patience, |_| false) == End::Quiet;
    if cut_off {
        client.finish();
    }
    client.until_closed(&mut received);
    let seen = scene.recorder.take();
    assert!(seen.malformed.is_empty(), "the upstream got what has more than one meaning: {:?}", seen.malformed);
    let statuses = statuses(&received);
    let served = statuses.iter().filter(|status| **status == 200).count();
    if cut_off {
        assert!(served <= seen.messages.len(), "{served} answers to {} messages", seen.messages.len());
    } else {
        assert_eq!(served, seen.messages.len(), "answers {statuses:?} to {:?}", seen.messages);
    }
    // Only what a strict reader refuses may be read in some other way.
    let lenient = matches!(end, Parsed::Malformed(_));
    assert!(lenient || seen.messages.len() <= expected.len(), "{expected:?} became {:?}", seen.messages);
    let answered = statuses.iter().take_while(|status| **status == 200).count();
    for (expected, seen) in expected.iter().zip(&seen.messages).take(answered) {
        check_message(expected, seen);
    }
}

fn check_message(expected: &Message, seen: &Message) {
    assert_eq!((&expected.method, &expected.body), (&seen.method, &seen.body), "{expected:?} became {seen:?}");
    let same = expected.framing == seen.framing || (expected.body.is_empty() && seen.framing != Framing::Chunked);
    assert!(same, "{expected:?} became {seen:?}");
}

/// The final statuses; the answers' bodies hold no status line.
fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    let lines = text.split("HTTP/1.").skip(1);
    lines.filter_map(|line| line.get(2..5)?.parse().ok()).filter(|status| *status >= 200).collect()
}
