//! A pattern of a route is refused or compiled at once, however hostile, and matches whole texts in linear time.

use std::time::Duration;

use clingfish::snapshot::{Extent, Pattern};

/// Of processor time. Far beyond what is promised (5 ms for a refusal, 1 ms for 8 KiB): fuzzing watches each branch.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest value that the types let through: a path of HTTPRoute has at most 1024 characters, a header 4096.
const LONGEST_PATTERN: usize = 4096;

/// A pattern, and behind the first LF a text.
pub fn run(data: &[u8]) {
    let split = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (pattern, text) = data.split_at(split);
    let Ok(pattern) = std::str::from_utf8(pattern) else { return };
    if pattern.len() > LONGEST_PATTERN {
        return;
    }
    let text = String::from_utf8_lossy(text.get(1..).unwrap_or_default());
    let began = processor_time();
    let anchored = Pattern::compile(pattern, Extent::Whole);
    let free = Pattern::compile(pattern, Extent::Anywhere);
    let took = processor_time() - began;
    assert!(took < PATIENCE, "compiling {pattern:?} took {took:?}");
    assert!(Pattern::price(pattern).is_ok() || anchored.is_err(), "{pattern:?} has no price");
    for error in [&anchored, &free].into_iter().filter_map(|compiled| compiled.as_ref().err()) {
        assert!(!error.is_empty() && !error.contains('\n'), "the refusal of {pattern:?}: {error:?}");
    }
    let Ok(anchored) = anchored else { return };
    let free = free.expect("what compiles between anchors compiles without");
    let long = text.repeat(8192 / text.len().max(1));
    for text in [&*text, &long] {
        let began = processor_time();
        let is_match = anchored.is_match(text);
        let took = processor_time() - began;
        assert!(took < PATIENCE, "{pattern:?} took {took:?} for {} bytes", text.len());
        assert!(!is_match || free.is_match(text), "{pattern:?} matches the whole of {text:?} and no part of it");
    }
}

/// What this thread has had of a processor: a machine that is busy with other things does not look like a fault.
fn processor_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = statistics.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the kernel counts"))
}
