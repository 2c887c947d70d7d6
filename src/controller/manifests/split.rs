//! A YAML stream as the texts of its documents.
//!
//! A line that begins with `---` begins a document wherever it stands, also within a scalar, so that documents can be told apart without
//! parsing them.

use memchr::memchr;

/// The text of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Line on which the text begins, from 1.
    pub(super) line: usize,
    /// The text, its `---` line included.
    pub(super) text: &'a str,
}

/// The documents of a stream in order. Those that hold nothing but comments, directives and white space are left out.
pub(super) fn split(stream: &str) -> Vec<Part<'_>> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let mut parts = Vec::new();
    let mut part = Part { line: 1, text: "" };
    // The document that is under way begins at `begin`; `position`, on `line`, is where a line begins.
    let (mut begin, mut position, mut line) = (0, 0, 1);
    while let Some(rest) = stream.get(position..).filter(|rest| !rest.is_empty()) {
        let end = memchr(b'\n', rest.as_bytes()).map_or(rest.len(), |end| end + 1);
        let text = rest.get(..end).unwrap_or_default();
        let is_end = is_marker(text, "...");
        if is_end || is_marker(text, "---") {
            part.text = stream.get(begin..position).unwrap_or_default();
            keep(part, &mut parts);
            // The end marker belongs to no document.
            begin = if is_end { position + end } else { position };
            part.line = if is_end { line + 1 } else { line };
        }
        position += end;
        line += 1;
    }
    part.text = stream.get(begin..).unwrap_or_default();
    keep(part, &mut parts);
    parts
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

fn keep<'a>(part: Part<'a>, parts: &mut Vec<Part<'a>>) {
    if !is_blank(without_marker(part.text)) {
        parts.push(part);
    }
}

/// Whether there is nothing but comments, directives and white space.
fn is_blank(mut text: &str) -> bool {
    loop {
        text = text.trim_start();
        if !text.starts_with(['#', '%']) {
            return text.is_empty();
        }
        let end = memchr(b'\n', text.as_bytes()).unwrap_or(text.len());
        text = text.get(end..).unwrap_or_default();
    }
}

/// The text after the `---` at its beginning, if there is one.
pub(super) fn without_marker(text: &str) -> &str {
    if is_marker(text.split_inclusive('\n').next().unwrap_or_default(), "---") { text.get(3..).unwrap_or_default() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_their_lines() {
        for (stream, expected) in [
            ("", vec![]),
            ("a: 1\n", vec![(1, "a: 1\n")]),
            ("---\na: 1\n---\nb: 2", vec![(1, "---\na: 1\n"), (3, "---\nb: 2")]),
            ("# c\n---\n# d\n\n--- # x\na: 1\n---\n", vec![(5, "--- # x\na: 1\n")]),
            ("%YAML 1.2\n---\na: 1\n...\n# e\n---\nb: 2\n", vec![(2, "---\na: 1\n"), (6, "---\nb: 2\n")]),
            ("a: |\n  ---\n  x\n----\n", vec![(1, "a: |\n  ---\n  x\n----\n")]),
            ("a: 1\r\n---\r\nb: 2\r\n", vec![(1, "a: 1\r\n"), (2, "---\r\nb: 2\r\n")]),
            ("--- {a: 1}\n", vec![(1, "--- {a: 1}\n")]),
            ("\u{feff}a: 1\n", vec![(1, "a: 1\n")]),
        ] {
            let found: Vec<_> = split(stream).into_iter().map(|part| (part.line, part.text)).collect();
            assert_eq!(found, expected, "{stream:?}");
        }
    }

    #[test]
    fn the_marker_is_taken_off() {
        for (text, expected) in [("---\n{}", "\n{}"), ("--- {}", " {}"), ("----", "----"), ("{}", "{}"), ("---", "")] {
            assert_eq!(without_marker(text), expected);
        }
    }
}
