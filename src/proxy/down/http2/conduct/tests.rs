use std::time::Duration;

use crate::proxy::wire::{
    frame_allowance::{DATA_FRAME, PER_DATA, PER_STREAM},
    frames::Scanner,
};

use super::*;

use crate::proxy::wire::frames::{HEADERS, PING};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Frame {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    let mut found = None;
    Scanner::default().scan(&bytes, |frame| found = Some(frame));
    found.unwrap()
}

fn pings(conduct: &Conduct, count: u32) {
    for _ in 0..count {
        conduct.received(frame(PING, 0, 0, &[0; 8]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_frames_beside_requests_and_data_are_enough() {
    let conduct = Conduct::new();
    pings(&conduct, 749);
    assert!(!conduct.is_warned());
    pings(&conduct, 1);
    assert!(conduct.is_warned(), "three quarters");
    pings(&conduct, 250);
    assert_eq!(conduct.abuse(), None);
    pings(&conduct, 1);
    assert_eq!(conduct.abuse(), Some(Http2Abuse::ControlFrames));
}

#[tokio::test(start_paused = true)]
async fn time_streams_and_data_bring_more_of_them_but_never_more_than_at_first() {
    let conduct = Conduct::new();
    for _ in 0..1000 {
        pings(&conduct, 90);
        assert!(!conduct.is_warned(), "ninety a second");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    for stream in 0..1000 {
        conduct.received(frame(HEADERS, 5, 2 * stream + 1, b"x"));
        conduct.accepted();
        pings(&conduct, PER_STREAM - 1);
    }
    for _ in 0..1000 {
        conduct.sent_data(DATA_FRAME + 1);
        pings(&conduct, 2 * PER_DATA);
    }
    assert_eq!(conduct.abuse(), None);
    tokio::time::advance(Duration::from_secs(1_000_000)).await;
    pings(&conduct, BURST);
    tokio::time::advance(Duration::from_secs(1_000_000)).await;
    pings(&conduct, BURST + 1);
    assert!(conduct.abuse().is_some());
}

#[test]
fn data_costs_nothing_unless_there_is_none() {
    let conduct = Conduct::new();
    for _ in 0..10_000 {
        conduct.received(frame(DATA, 0, 1, b"x"));
        conduct.received(frame(DATA, 1, 1, b""));
    }
    assert!(!conduct.is_warned());
    for _ in 0..BURST {
        conduct.received(frame(DATA, 0, 1, b""));
    }
    assert!(conduct.is_warned());
}

#[test]
fn most_streams_must_not_be_reset_before_their_answer() {
    let ends = |premature: &[(u32, bool)]| {
        let conduct = Conduct::new();
        for (count, premature) in premature {
            (0..*count).for_each(|_| conduct.stream_ended(*premature));
        }
        conduct.abuse()
    };
    let abuse = Some(Http2Abuse::PrematureResets);
    assert_eq!(ends(&[(99, true)]), None);
    assert_eq!(ends(&[(100, true)]), abuse);
    assert_eq!(ends(&[(100, false), (99, true)]), None);
    assert_eq!(ends(&[(100, false), (100, true)]), abuse);
    assert_eq!(ends(&[(1000, false), (999, true)]), None);
    assert_eq!(ends(&[(1000, false), (1000, true)]), abuse);
}
