//! `prefixRewrite`, `regexRewrite` and `headerManipulation`.

use http::{HeaderName, HeaderValue, header, uri::PathAndQuery};

use crate::api::{HeaderManipulation, HeaderToAdd, RegexRewrite};
use crate::base::text::quoted;
use crate::snapshot::{Extent, HeaderOps, PathRewrite};
use crate::translate::framing::is_framing;
use crate::translate::gloo::findings::Findings;
use crate::translate::patterns::{self, Allowance};

/// Which message a change of headers is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Request,
    Response,
}

/// `prefixRewrite`; empty changes nothing, as in Envoy.
pub(super) fn prefix(prefix: &str) -> Result<Option<PathRewrite>, String> {
    if prefix.is_empty() {
        return Ok(None);
    }
    let valid = prefix.starts_with('/') && !prefix.contains(['?', '#']) && prefix.parse::<PathAndQuery>().is_ok();
    if !valid {
        return Err(format!(
            "field spec.options.prefixRewrite is {prefix}: expected an absolute path without query",
            prefix = quoted(prefix)
        ));
    }
    Ok(Some(PathRewrite::Prefix(prefix.into())))
}

/// `regexRewrite`.
pub(super) fn regex(rewrite: &RegexRewrite, allowance: &Allowance<'_>) -> Result<PathRewrite, String> {
    const FIELD: &str = "field spec.options.regexRewrite";
    let source = rewrite.pattern.as_ref().map(|pattern| pattern.regex.as_str()).unwrap_or_default();
    if source.is_empty() {
        return Err(format!("{FIELD}.pattern.regex is empty: expected a regular expression"));
    }
    let pattern = allowance
        .compile(source, Extent::Anywhere)
        .map_err(|error| format!("{FIELD}.pattern.regex is {}: expected a regular expression in RE2's syntax: {error}", quoted(source)))?;
    let substitution = patterns::substitution(&rewrite.substitution, pattern.regex())
        .map_err(|why| format!("{FIELD}.substitution is {}: {why}", quoted(&rewrite.substitution)))?;
    Ok(PathRewrite::Regex { pattern, substitution: substitution.into() })
}

/// `headerManipulation`: changes to requests and to responses.
pub(super) fn headers(headers: &HeaderManipulation, findings: &mut Findings) -> Result<(HeaderOps, HeaderOps), String> {
    let request = HeaderChanges {
        message: Message::Request,
        add: ("requestHeadersToAdd", headers.request_headers_to_add.as_deref().unwrap_or_default()),
        remove: ("requestHeadersToRemove", headers.request_headers_to_remove.as_deref().unwrap_or_default()),
    };
    let response = HeaderChanges {
        message: Message::Response,
        add: ("responseHeadersToAdd", headers.response_headers_to_add.as_deref().unwrap_or_default()),
        remove: ("responseHeadersToRemove", headers.response_headers_to_remove.as_deref().unwrap_or_default()),
    };
    Ok((request.compile(findings)?, response.compile(findings)?))
}

/// The changes to one message, each list with its field's name.
struct HeaderChanges<'a> {
    message: Message,
    add: (&'static str, &'a [HeaderToAdd]),
    remove: (&'static str, &'a [String]),
}

impl HeaderChanges<'_> {
    fn compile(&self, findings: &mut Findings) -> Result<HeaderOps, String> {
        let (mut set, mut add, mut remove) = (Vec::new(), Vec::new(), Vec::new());
        let (field, entries) = self.add;
        for (index, entry) in entries.iter().enumerate() {
            let field = format!("field spec.options.headerManipulation.{field}[{index}]");
            let Some(header) = &entry.header else {
                // A header from a Secret was warned of by its own name.
                if !entry.other.contains_key("headerSecretRef") {
                    return Err(format!("{field}.header is missing: expected key and value"));
                }
                continue;
            };
            let name = self.name(&header.key, &format!("{field}.header.key"))?;
            if is_framing(&name) {
                return Err(format!(
                    "{field}.header.key is {name}: expected a header that neither frames the message nor steers the connection",
                    name = quoted(&header.key)
                ));
            }
            let Some(value) = literal(&header.value) else {
                findings.warn(format!(
                    "{field}.header.value is accepted but not applied: formatters (%...%) are not supported, the header is left out"
                ));
                continue;
            };
            let value = HeaderValue::from_str(&value)
                .map_err(|_| format!("{field}.header.value is {}: expected printable characters", quoted(&header.value)))?;
            (if entry.append == Some(false) { &mut set } else { &mut add }).push((name, value));
        }
        let (field, names) = self.remove;
        for (index, name) in names.iter().enumerate() {
            let field = format!("field spec.options.headerManipulation.{field}[{index}]");
            let name = self.name(name, &field)?;
            if is_framing(&name) {
                findings.warn(format!("{field} is accepted but not applied: {name} frames the message or belongs to the connection"));
            } else {
                remove.push(name);
            }
        }
        Ok(HeaderOps { set: set.into(), add: add.into(), remove: remove.into() })
    }

    fn name(&self, name: &str, field: &str) -> Result<HeaderName, String> {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{field} is {name}: expected the name of a header", name = quoted(name)))?;
        if self.message == Message::Request && parsed == header::HOST {
            return Err(format!("{field} is {name}: expected hostRewrite for that", name = quoted(name)));
        }
        Ok(parsed)
    }
}

/// The value without formatters: `%%` is a percent sign; `None` if there is any other.
fn literal(value: &str) -> Option<String> {
    let plain = value.replace("%%", "");
    (!plain.contains('%')).then(|| value.replace("%%", "%"))
}
