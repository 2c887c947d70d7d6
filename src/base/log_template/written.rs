//! An operator as it stands in a template.

/// An operator as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written<'a> {
    pub(super) name: &'a str,
    /// What stands in parentheses.
    pub(super) argument: Option<&'a str>,
    /// What stands after a colon.
    pub(super) length: Option<&'a str>,
}

// === impl Written ===

impl<'a> Written<'a> {
    /// Splits `NAME(argument):length%` off, without the first percent sign; also what follows.
    pub(super) fn split(text: &'a str) -> Result<(Self, &'a str), String> {
        let is_name = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
        let end = text.find(|letter| !is_name(letter)).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(end);
        if name.is_empty() {
            return Err("a percent sign that begins no operator; expected %% for the sign itself".to_owned());
        }
        let open = |what: &str| format!("%{name} is not closed; expected {what}");
        let mut written = Self { name, argument: None, length: None };
        if let Some(inside) = rest.strip_prefix('(') {
            let (argument, after) = inside.split_once(')').ok_or_else(|| open("a closing parenthesis"))?;
            written.argument = Some(argument);
            rest = after;
        }
        if let Some(after) = rest.strip_prefix(':') {
            let digits = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
            let (length, after) = after.split_at(digits);
            written.length = Some(length);
            rest = after;
        }
        let next = rest.strip_prefix('%').ok_or_else(|| open("a percent sign at its end"))?;
        Ok((written, next))
    }
}
