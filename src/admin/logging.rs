//! What is logged, told and changed while the process runs: Envoy's admin has `/logging` too.

use http::StatusCode;
use serde_json::json;

use crate::base::LineFormat;
use crate::telemetry::Logging;

/// What is logged, and in which form.
pub(super) fn tell(logging: &Logging) -> (StatusCode, String) {
    let (level, format) = logging.state();
    (StatusCode::OK, format!("{}\n", json!({"level": level, "format": word(format)})))
}

/// Changes what the query names: `level`, which is a level or `target=level` pairs, and `format`, which is text or json.
pub(super) fn change(logging: &Logging, query: Option<&str>) -> (StatusCode, String) {
    let (level, format) = match read(query.unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(problem) => return (StatusCode::BAD_REQUEST, format!("{problem}; expected level=LEVEL, format=text|json, or both\n")),
    };
    let before = logging.state();
    if let Err(error) = logging.change(level.as_deref(), format) {
        return (StatusCode::BAD_REQUEST, format!("{error}\n"));
    }
    let now = logging.state();
    // At a level that mostly passes: who reads the log later must see why it changes.
    tracing::error!(before = before.0, level = now.0, format = word(now.1), "what is logged was changed at the admin port");
    tell(logging)
}

fn word(format: LineFormat) -> &'static str {
    match format {
        LineFormat::Text => "text",
        LineFormat::Json => "json",
    }
}

fn read(query: &str) -> Result<(Option<String>, Option<LineFormat>), String> {
    let (mut level, mut format) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        match (name, value.as_str()) {
            ("level", "") => return Err("level is empty".to_owned()),
            ("level", _) => level = Some(value),
            ("format", "text") => format = Some(LineFormat::Text),
            ("format", "json") => format = Some(LineFormat::Json),
            ("format", _) => return Err(format!("format is {value:?}")),
            _ => return Err(format!("{name:?} is unknown")),
        }
    }
    if level.is_none() && format.is_none() { Err("nothing is to be changed".to_owned()) } else { Ok((level, format)) }
}

/// A value of a query: `%2C` is a comma, as curl's `--data-urlencode` writes it.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let digit = |byte: Option<u8>| char::from(byte.unwrap_or_default()).to_digit(16);
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = ahead;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_level_a_format_or_both() {
        let level = |text: &str| Some(text.to_owned());
        for (query, expected) in [
            ("level=debug", Ok((level("debug"), None))),
            ("level=info,clingfish::proxy=debug&format=json", Ok((level("info,clingfish::proxy=debug"), Some(LineFormat::Json)))),
            ("level=info%2Cclingfish%3a%3aproxy%3Ddebug", Ok((level("info,clingfish::proxy=debug"), None))),
            ("format=text", Ok((None, Some(LineFormat::Text)))),
            ("level=%zz%4", Ok((level("%zz%4"), None))),
            ("", Err("nothing is to be changed")),
            ("level=", Err("level is empty")),
            ("format=xml", Err("format is \"xml\"")),
            ("paths=debug", Err("\"paths\" is unknown")),
        ] {
            assert_eq!(read(query), expected.map_err(str::to_owned), "{query}");
        }
    }
}
