use crate::proxy::wire::frames::Scanner;

use super::*;

const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Frame {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    let mut found = None;
    Scanner::default().scan(&bytes, |frame| found = Some(frame));
    found.unwrap()
}

/// A host that has sent its SETTINGS.
fn greeted() -> Conduct {
    let conduct = Conduct::new();
    conduct.received(frame(SETTINGS, 0, 0, b""), false);
    assert!(conduct.take_settings() && conduct.fault().is_none());
    conduct
}

#[test]
fn settings_come_first() {
    for (first, is_right) in [
        (frame(SETTINGS, 0, 0, &[0; 6]), true),
        (frame(SETTINGS, ACK, 0, b""), false),
        (frame(SETTINGS, 0, 1, b""), false),
        (frame(PING, 0, 0, &[0; 8]), false),
        (frame(GOAWAY, 0, 0, &[0; 8]), false),
    ] {
        let conduct = Conduct::new();
        conduct.received(first, false);
        assert_eq!(conduct.fault().is_none(), is_right, "{first:?}");
    }
}

#[test]
fn settings_count_once_they_are_whole() {
    let conduct = Conduct::new();
    assert!(!conduct.take_settings());
    conduct.set_within(true);
    conduct.received(frame(SETTINGS, 0, 0, &[0; 6]), false);
    assert!(!conduct.take_settings(), "the payload is not there");
    conduct.set_within(false);
    assert!(conduct.take_settings() && !conduct.take_settings());
    conduct.set_within(true);
    conduct.received(frame(SETTINGS, 0, 0, &[0; 6]), false);
    conduct.received(frame(DATA, 0, 1, b"x"), false);
    assert!(conduct.take_settings(), "another frame has begun behind it");
    conduct.received(frame(SETTINGS, ACK, 0, b""), false);
    assert!(!conduct.take_settings());
}

#[test]
fn a_farewell_and_many_empty_frames_end_new_streams() {
    let conduct = greeted();
    conduct.received(frame(GOAWAY, 0, 0, &[0; 8]), false);
    assert!(conduct.is_leaving());
    let conduct = greeted();
    for _ in 1..EMPTY_DATA {
        conduct.received(frame(DATA, 0, 1, b""), false);
        conduct.received(frame(DATA, 1, 1, b""), false);
    }
    assert!(!conduct.is_leaving(), "the last frame of a stream may be empty");
    conduct.received(frame(DATA, 0, 1, b""), false);
    assert!(conduct.is_leaving() && conduct.fault().is_none());
}

#[test]
fn frames_beside_answers_and_data_are_bounded() {
    let conduct = greeted();
    for _ in 0..2000 {
        conduct.received(frame(PING, 0, 0, &[0; 8]), false);
    }
    assert!(conduct.fault().is_some());
    let conduct = greeted();
    for stream in 0..2000 {
        conduct.sent(frame(HEADERS, 5, 2 * stream + 1, b"x"));
        conduct.sent(frame(DATA, 0, 2 * stream + 1, b"x"));
        (0..30).for_each(|_| conduct.received(frame(PING, 0, 0, &[0; 8]), false));
        (0..100).for_each(|_| conduct.received(frame(DATA, 0, 1, b"x"), false));
    }
    assert_eq!(conduct.fault(), None, "streams and data bring more of them");
}

#[tokio::test(start_paused = true)]
async fn a_frame_or_a_head_has_its_time() {
    const LONGEST: Duration = Duration::from_secs(10);
    let stands = |continued: bool| async move {
        let conduct = greeted();
        conduct.set_within(true);
        for second in 0..30 {
            conduct.check(Instant::now(), LONGEST);
            tokio::time::advance(Duration::from_secs(1)).await;
            conduct.received(frame(if continued { CONTINUATION } else { DATA }, 0, 1, b"x"), continued);
            if conduct.fault().is_some() {
                return Some(second);
            }
        }
        None
    };
    assert_eq!(stands(false).await, None, "one frame after the other");
    assert_eq!(stands(true).await, Some(10), "a head that goes on and on");
    let conduct = greeted();
    conduct.check(Instant::now(), LONGEST);
    tokio::time::advance(Duration::from_secs(3600)).await;
    conduct.check(Instant::now(), LONGEST);
    assert_eq!(conduct.fault(), None, "nothing has begun");
}
