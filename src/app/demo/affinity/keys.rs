//! What somebody presses: single keys in a terminal, else lines.

use std::{
    io::{BufRead as _, IsTerminal as _, Read as _},
    process::{Command, Stdio},
    thread,
};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A terminal that gives keys at once; as before when this is dropped.
#[derive(Debug)]
pub(super) struct Terminal {
    /// What `stty -g` said; `None`: it is no terminal, or has no stty.
    before: Option<String>,
}

// === impl Terminal ===

impl Terminal {
    /// Whether keys come without Enter.
    pub(super) fn is_immediate(&self) -> bool {
        self.before.is_some()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            let _ = stty(&[&before]);
        }
    }
}

/// What is pressed from now on.
pub(super) fn listen() -> (Terminal, UnboundedReceiver<char>) {
    let before = std::io::stdin().is_terminal().then(|| stty(&["-g"])).flatten();
    let before = before.filter(|_| stty(&["-icanon", "-echo", "min", "1"]).is_some());
    let terminal = Terminal { before };
    let (sender, receiver) = unbounded_channel();
    let immediate = terminal.is_immediate();
    // A thread of its own, which ends with the process: reading cannot be given up.
    let read = move || {
        let mut input = std::io::stdin().lock();
        loop {
            let key = if immediate { one(&mut input) } else { line(&mut input) };
            match key {
                Some(key) if sender.send(key).is_ok() => {}
                Some(_) | None => return,
            }
        }
    };
    // Without it the scene goes on, and nobody can press anything.
    let _ = thread::Builder::new().name("demo-keys".into()).spawn(read);
    (terminal, receiver)
}

fn one(input: &mut impl std::io::Read) -> Option<char> {
    let mut byte = [0];
    input.read_exact(&mut byte).ok()?;
    Some(char::from(byte[0]))
}

fn line(input: &mut impl std::io::BufRead) -> Option<char> {
    let mut line = String::new();
    // An endless line is none.
    let read = input.take(1024).read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim().chars().next().unwrap_or('?'))
}

fn stty(arguments: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(arguments).stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_its_first_letter() {
        let mut input = &b"+\n  roll\n\nlast"[..];
        let read: Vec<_> = std::iter::from_fn(|| line(&mut input)).collect();
        assert_eq!(read, ['+', 'r', '?', 'l']);
    }
}
