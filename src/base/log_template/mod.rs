//! Templates of access log lines in the words of Envoy's command operators (Envoy's documentation, "Access logging": format strings).

mod operator;
mod time;

use http::HeaderName;

pub use operator::{AddressOf, AddressPart, FieldChoice, Operator};
pub use time::TimeFormat;

/// A parsed template: the parts of a line, and the headers that must be kept of a request for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTemplate {
    segments: Vec<Segment>,
    request_fields: Vec<RequestField>,
    response_fields: Vec<ResponseField>,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Text as it is.
    Text(String),
    /// What an operator stands for.
    Operator(Operator),
}

/// What a template takes of a request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestField {
    /// `:method`.
    Method,
    /// `:path`, with the query.
    Path,
    /// `x-envoy-original-path`: the path as received, where another one is forwarded.
    OriginalPath,
    /// `:authority`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// A header.
    Header(HeaderName),
}

/// What a template takes of a response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseField {
    /// `:status`.
    Status,
    /// A header.
    Header(HeaderName),
}

/// Why a template is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("character {position}: {message}")]
pub struct TemplateError {
    /// Where the operator or the character is that is refused, counted from 1.
    pub position: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

/// An operator as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written<'a> {
    name: &'a str,
    /// What stands in parentheses.
    argument: Option<&'a str>,
    /// What stands after a colon.
    length: Option<&'a str>,
}

// === impl LogTemplate ===

impl LogTemplate {
    /// Parses a template. A line break at its end is as good as none.
    ///
    /// # Errors
    /// The first character or operator that is refused.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let mut template = Self::default();
        let mut rest = text;
        loop {
            let (plain, after) = rest.split_once('%').map_or((rest, None), |(plain, after)| (plain, Some(after)));
            let at = |part: &str| text.len() - part.len();
            if let Some(control) = plain.find(|letter: char| letter.is_control() && letter != '\t') {
                let message = "a control character; expected one line of text".to_owned();
                return Err(TemplateError { position: position(text, at(rest) + control), message });
            }
            template.push_text(plain);
            let Some(after) = after else { break };
            if let Some(next) = after.strip_prefix('%') {
                template.push_text("%");
                rest = next;
                continue;
            }
            let refused = |message| TemplateError { position: position(text, at(after) - 1), message };
            let (written, next) = Written::split(after).map_err(refused)?;
            let operator = operator::parse(written, &mut template).map_err(|message| refused(format!("%{}%: {message}", written.name)))?;
            template.segments.push(Segment::Operator(operator));
            rest = next;
        }
        if template.segments.is_empty() {
            return Err(TemplateError {
                position: 1,
                message: "the template is empty; expected text with operators, as %RESPONSE_CODE%".to_owned(),
            });
        }
        Ok(template)
    }

    /// The parts of a line, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What is kept of a request's head; `FieldChoice` has indexes of it.
    pub fn request_fields(&self) -> &[RequestField] {
        &self.request_fields
    }

    /// What is kept of a response's head; `FieldChoice` has indexes of it.
    pub fn response_fields(&self) -> &[ResponseField] {
        &self.response_fields
    }

    fn push_text(&mut self, text: &str) {
        match self.segments.last_mut() {
            Some(Segment::Text(before)) => before.push_str(text),
            Some(Segment::Operator(_)) | None if text.is_empty() => {}
            Some(Segment::Operator(_)) | None => self.segments.push(Segment::Text(text.to_owned())),
        }
    }
}

/// The index of a field; each is kept once.
fn index_of<F: PartialEq>(fields: &mut Vec<F>, field: F) -> usize {
    fields.iter().position(|kept| *kept == field).unwrap_or_else(|| {
        fields.push(field);
        fields.len() - 1
    })
}

/// The number of the character at a byte, counted from 1.
fn position(text: &str, byte: usize) -> usize {
    text.get(..byte).map_or(0, |before| before.chars().count()) + 1
}

// === impl Written ===

impl<'a> Written<'a> {
    /// Splits `NAME(argument):length%` off, without the first percent sign; also what follows.
    fn split(text: &'a str) -> Result<(Self, &'a str), String> {
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

#[cfg(test)]
mod tests;
