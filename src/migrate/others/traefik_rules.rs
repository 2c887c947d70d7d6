//! Traefik's language of matches, as far as HTTPRoutes have the same: Host, Path, PathPrefix, PathRegexp, Method, Header, Query with `&&`, and
//! alternatives of one matcher.

use serde_json::{Map, Value, json};

/// What a match says.
#[derive(Debug, PartialEq)]
pub(super) struct Matches {
    pub(super) hostnames: Vec<String>,
    /// As in `matches` of an HTTPRoute's rule; empty: everything.
    pub(super) matches: Vec<Value>,
}

/// Conditions that all have to hold: a name and its arguments each.
type Conditions = Vec<(String, Vec<String>)>;

/// Reads a match. `None`: an HTTPRoute cannot say it.
pub(super) fn read(text: &str) -> Option<Matches> {
    let conditions = conditions(text)?;
    let mut hostnames: Vec<String> = Vec::new();
    let mut matched = vec![Map::new()];
    for (name, arguments) in conditions {
        let first = arguments.first()?.as_str();
        let pair = |kind: &str| Some(json!({"name": first, "type": kind, "value": arguments.get(1)?}));
        match name.as_str() {
            "Host" if hostnames.is_empty() => hostnames = arguments,
            "Path" | "PathPrefix" | "PathRegexp" => {
                let kind = match name.as_str() {
                    "Path" => "Exact",
                    "PathPrefix" => "PathPrefix",
                    _ => "RegularExpression",
                };
                // One match for each of the paths, with all else that was asked for.
                let with = |path: &String| {
                    let mut all = matched.clone();
                    all.iter_mut().for_each(|one| drop(one.insert("path".to_owned(), json!({"type": kind, "value": path}))));
                    all
                };
                matched = arguments.iter().flat_map(with).collect();
            }
            "Method" => matched.iter_mut().for_each(|one| drop(one.insert("method".to_owned(), json!(first)))),
            "Header" | "Headers" => push(&mut matched, "headers", &pair("Exact")?),
            "HeaderRegexp" => push(&mut matched, "headers", &pair("RegularExpression")?),
            "Query" => push(&mut matched, "queryParams", &pair("Exact")?),
            _ => return None,
        }
    }
    Some(Matches { hostnames, matches: matched.into_iter().filter(|one| !one.is_empty()).map(Value::Object).collect() })
}

fn push(matched: &mut [Map<String, Value>], field: &str, condition: &Value) {
    for one in matched {
        if let Some(list) = one.entry(field).or_insert_with(|| json!([])).as_array_mut() {
            list.push(condition.clone());
        }
    }
}

/// Splits at `&&`; `A(x) || A(y)` is `A(x, y)`. No negations, and no parentheses but around such alternatives.
fn conditions(text: &str) -> Option<Conditions> {
    let mut conditions = Conditions::new();
    for part in outside(text, "&&")? {
        let part = part.trim();
        let part = part.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(part);
        let mut alternatives: Option<(String, Vec<String>)> = None;
        for one in outside(part, "||")? {
            let (name, arguments) = call(one.trim())?;
            match &mut alternatives {
                None => alternatives = Some((name, arguments)),
                Some((known, all)) if *known == name && ["Host", "Path", "PathPrefix", "PathRegexp"].contains(&name.as_str()) => {
                    all.extend(arguments);
                }
                Some(_) => return None,
            }
        }
        conditions.push(alternatives?);
    }
    Some(conditions)
}

/// Splits at an operator that stands outside of quotes and parentheses.
fn outside<'a>(text: &'a str, operator: &str) -> Option<Vec<&'a str>> {
    let (mut parts, mut from, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '`' | '"' | '\'') => quote = Some(letter),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.checked_sub(1)?,
            (None, _) if depth == 0 && text.get(at..)?.starts_with(operator) && at >= from => {
                parts.push(text.get(from..at)?);
                from = at + operator.len();
            }
            (None, _) => {}
        }
    }
    parts.push(text.get(from..)?);
    (depth == 0 && quote.is_none()).then_some(parts)
}

/// A call such as ``Host(`a`, `b`)``.
fn call(text: &str) -> Option<(String, Vec<String>)> {
    let (name, rest) = text.split_once('(')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let arguments = outside(rest.strip_suffix(')')?, ",")?.into_iter().map(|one| unquoted(one.trim()));
    is_name.then_some((name.to_owned(), arguments.collect::<Option<Vec<_>>>()?))
}

fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|quote| ['`', '"', '\''].contains(quote))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains(quote)).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_that_an_http_route_can_say() {
        for (text, hostnames, matches) in [
            ("Host(`a.example`)", &["a.example"][..], json!([])),
            ("Host(`a`) || Host(`b`)", &["a", "b"], json!([])),
            ("(Host(`a`, `b`)) && PathPrefix(`/x`)", &["a", "b"], json!([{"path": {"type": "PathPrefix", "value": "/x"}}])),
            (
                "Path(`/x`) && Method(`GET`) && Header(`h`, `v && w`)",
                &[],
                json!([{"path": {"type": "Exact", "value": "/x"}, "method": "GET", "headers": [{"name": "h", "type": "Exact", "value": "v && w"}]}]),
            ),
            (
                "Method(`GET`) && (PathPrefix(`/x`) || PathPrefix(`/y`))",
                &[],
                json!([
                    {"path": {"type": "PathPrefix", "value": "/x"}, "method": "GET"},
                    {"path": {"type": "PathPrefix", "value": "/y"}, "method": "GET"},
                ]),
            ),
        ] {
            let read = read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (read.hostnames.as_slice(), json!(read.matches)),
                (&hostnames.iter().map(|&host| host.to_owned()).collect::<Vec<_>>()[..], matches),
                "{text}"
            );
        }
    }

    #[test]
    fn matches_that_it_cannot_say() {
        for text in [
            "",
            "Host(`a`",
            "Host(a)",
            "!Host(`a`)",
            "Host(`a`) || Path(`/`)",
            "ClientIP(`10.0.0.0/8`)",
            "Host(`a`) && Host(`b`)",
            ")(",
            "Host(`a`b`)",
            "Header(`h`)",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
