//! Templates of access log lines in the words of Envoy's command operators (Envoy's documentation, "Access logging": format strings).

mod fields;
mod operator;
mod time;
mod written;

use fields::Fields;
use written::Written;

pub use fields::{RequestField, ResponseField};
pub use operator::{AddressOf, AddressPart, FieldChoice, Operator};
pub use time::TimeFormat;

/// A parsed template: the parts of a line, and the headers that must be kept of a request for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTemplate {
    segments: Vec<Segment>,
    fields: Fields,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Text as it is.
    Text(String),
    /// What an operator stands for.
    Operator(Operator),
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
            let operator =
                operator::parse(written, &mut template.fields).map_err(|message| refused(format!("%{}%: {message}", written.name)))?;
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
        &self.fields.request
    }

    /// What is kept of a response's head; `FieldChoice` has indexes of it.
    pub fn response_fields(&self) -> &[ResponseField] {
        &self.fields.response
    }

    fn push_text(&mut self, text: &str) {
        match self.segments.last_mut() {
            Some(Segment::Text(before)) => before.push_str(text),
            Some(Segment::Operator(_)) | None if text.is_empty() => {}
            Some(Segment::Operator(_)) | None => self.segments.push(Segment::Text(text.to_owned())),
        }
    }
}

/// The number of the character at a byte, counted from 1.
fn position(text: &str, byte: usize) -> usize {
    text.get(..byte).map_or(0, |before| before.chars().count()) + 1
}

#[cfg(test)]
mod tests;
