//! Hash policies on a recorded request, evaluated by the data plane's own `plan::affinity`.
//!
//! Only what a recording has and a configuration cannot say is done here: the rewrite of a header's values before they are hashed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clingfish::plan::{affinity::evaluate, client_address};
use clingfish::snapshot::{self, ClientProfile, CookiePolicy, HashSource};
use http::{HeaderName, HeaderValue, Request, request::Parts};
use regex::bytes::Regex;

use crate::format::{Cookie, Expectation, HashPolicy, Key};

/// What the policies make of a request.
pub(crate) struct Affinity {
    pub(crate) hash: Option<u64>,
    pub(crate) set_cookie: Vec<String>,
}

/// A case's hash policies, ready to use.
pub(crate) struct Policies {
    policies: Vec<snapshot::HashPolicy>,
    rewrites: Vec<Rewrite>,
}

/// The rewrite of a header's values; the result is hashed as a header of its own.
struct Rewrite {
    from: String,
    to: HeaderName,
    pattern: Regex,
    by: Vec<u8>,
}

/// A recorded request.
struct Recorded {
    parts: Parts,
    connection: Option<(SocketAddr, SocketAddr)>,
    peer: IpAddr,
}

impl Policies {
    pub(crate) fn new(policies: &[HashPolicy]) -> Result<Self, String> {
        let mut all = Self { policies: Vec::new(), rewrites: Vec::new() };
        for policy in policies {
            if let Some(source) = all.source(policy)? {
                all.policies.push(snapshot::HashPolicy { source, terminal: policy.terminal });
            }
        }
        Ok(all)
    }

    pub(crate) fn evaluate(&self, expected: &Expectation) -> Result<Affinity, String> {
        let Recorded { parts, connection, peer } = self.request(expected)?;
        let peer = connection.map_or_else(|| SocketAddr::new(peer, 0), |(remote, _)| remote);
        let gloos_default = ClientProfile {
            use_remote_address: false,
            xff_num_trusted_hops: 0,
            server_header: HeaderValue::from_static("envoy"),
            path: Default::default(),
            headers_with_underscores: Default::default(),
        };
        let parts = clingfish::base::head::request::Parts::from(parts);
        let client = client_address(&parts.headers, &gloos_default, peer);
        let (remote, local) = connection.unwrap_or((peer, peer));
        let key = evaluate(&self.policies, &parts, client, remote, local, None);
        if connection.is_none() && !key.set_cookie.is_empty() {
            return Err("a cookie is generated from unknown addresses".into());
        }
        let set_cookie = key.set_cookie.iter().map(|value| value.as_bytes().iter().copied().map(char::from).collect());
        Ok(Affinity { hash: key.hash, set_cookie: set_cookie.collect() })
    }

    /// Where nothing else is recorded, the key is what the policies hash.
    fn request(&self, expected: &Expectation) -> Result<Recorded, String> {
        let mut headers: Vec<(&str, &str)> = Vec::new();
        let mut connection = None;
        let mut peer = None;
        let recorded = expected.request.as_ref().into_iter().flat_map(|request| &request.headers);
        headers.extend(recorded.map(|(name, value)| (name.as_str(), value.as_str())));
        match &expected.key {
            Key::Connection(ends) => {
                let end = |text: &str| text.parse::<SocketAddr>().map_err(|error| format!("{text}: {error}"));
                headers.extend(ends.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
                connection = Some((end(&ends.remote)?, end(&ends.local)?));
            }
            Key::Text(text) => {
                let only_source_ip = matches!(self.policies[..], [snapshot::HashPolicy { source: HashSource::SourceIp, .. }]);
                match expected.request {
                    None if only_source_ip => peer = Some(text.parse().map_err(|error| format!("{text}: {error}"))?),
                    None => headers.push(("x-user", text)),
                    Some(_) => {}
                }
                // A key of several values is written with separators that no header may have.
                let is_host = bytes(text).is_ok_and(|text| HeaderValue::from_bytes(&text).is_ok());
                if is_host && !headers.iter().any(|(name, _)| matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority")) {
                    headers.push(("host", text));
                }
            }
        }
        let path = expected.request.as_ref().and_then(|request| request.path.as_deref()).unwrap_or("/");
        let mut parts = parts(path, &headers)?;
        self.rewrite(&mut parts)?;
        // The recordings were made on loopback.
        Ok(Recorded { parts, connection, peer: peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)) })
    }

    fn rewrite(&self, parts: &mut Parts) -> Result<(), String> {
        for rewrite in &self.rewrites {
            let values: Vec<Vec<u8>> = match rewrite.from.as_str() {
                ":path" => vec![parts.uri.to_string().into_bytes()],
                name => {
                    let name = if name == ":authority" { "host" } else { name };
                    parts.headers.get_all(header_name(name)?).iter().map(|value| value.as_bytes().to_vec()).collect()
                }
            };
            for value in values {
                let value = rewrite.pattern.replace_all(&value, rewrite.by.as_slice());
                parts.headers.append(&rewrite.to, HeaderValue::from_bytes(&value).map_err(|error| error.to_string())?);
            }
        }
        Ok(())
    }

    fn source(&mut self, policy: &HashPolicy) -> Result<Option<HashSource>, String> {
        let HashPolicy { header, regex, substitution, cookie, source_ip, query, terminal: _ } = policy;
        if header.is_none() && (regex.is_some() || substitution.is_some()) {
            return Err("`regex` and `substitution` belong to `header`".into());
        }
        match (header, cookie, source_ip, query) {
            (Some(name), None, None, None) => self.header(name, regex.as_deref(), substitution.as_deref()).map(Some),
            (None, Some(cookie), None, None) => Ok(Some(HashSource::Cookie(CookiePolicy {
                name: cookie.name.as_str().into(),
                ttl_seconds: cookie.ttl.map(|ttl| ttl as u64),
                set_cookie_suffix: suffix(cookie).into(),
                secure_over_https: false,
            }))),
            (None, None, Some(true), None) => Ok(Some(HashSource::SourceIp)),
            (None, None, Some(false), None) => Ok(None),
            (None, None, None, Some(name)) => Ok(Some(HashSource::QueryParameter(name.as_str().into()))),
            _ => Err("a policy needs exactly one of `header`, `cookie`, `source_ip`, `query`".into()),
        }
    }

    fn header(&mut self, name: &str, regex: Option<&str>, substitution: Option<&str>) -> Result<HashSource, String> {
        let Some(regex) = regex else {
            return match substitution {
                Some(_) => Err("`substitution` without `regex`".into()),
                None if name.starts_with(':') => Ok(HashSource::PseudoHeader(name.into())),
                None => Ok(HashSource::Header(header_name(name)?)),
            };
        };
        let to: HeaderName = header_name(&format!("x-rewritten-{}", self.rewrites.len()))?;
        let pattern = Regex::new(regex).map_err(|error| error.to_string())?;
        self.rewrites.push(Rewrite { from: name.into(), to: to.clone(), pattern, by: replacement(substitution.unwrap_or_default()) });
        Ok(HashSource::Header(to))
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    name.parse().map_err(|error| format!("header {name}: {error}"))
}

/// A request head as the data plane has it: blanks around values are gone, the authority is the Host.
fn parts(path: &str, headers: &[(&str, &str)]) -> Result<Parts, String> {
    let mut builder = Request::builder().uri(path);
    for (name, value) in headers {
        let name = if *name == ":authority" { "host" } else { name };
        let value = bytes(value.trim_matches([' ', '\t']))?;
        let value = HeaderValue::from_bytes(&value).map_err(|error| format!("{name}: {error}"))?;
        builder = builder.header(name, value);
    }
    Ok(builder.body(()).map_err(|error| error.to_string())?.into_parts().0)
}

/// One character of a recording is one byte (ISO 8859-1).
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    text.chars().map(u8::try_from).collect::<Result<_, _>>().map_err(|_| format!("{text:?}: expected characters up to U+00FF, each a byte"))
}

/// RE2's `\1` as `${1}`.
fn replacement(substitution: &str) -> Vec<u8> {
    let mut replacement = String::new();
    let mut characters = substitution.chars();
    while let Some(character) = characters.next() {
        match character {
            '$' => replacement.push_str("$$"),
            '\\' => match characters.next() {
                Some(digit) if digit.is_ascii_digit() => replacement.push_str(&format!("${{{digit}}}")),
                Some(other) => replacement.push(other),
                None => replacement.push('\\'),
            },
            other => replacement.push(other),
        }
    }
    replacement.into_bytes()
}

/// What follows a generated cookie's value.
fn suffix(cookie: &Cookie) -> String {
    let mut suffix = String::new();
    let seconds = cookie.ttl.unwrap_or(0.0) as u64;
    if seconds > 0 {
        suffix.push_str(&format!("; Max-Age={seconds}"));
    }
    if let Some(path) = cookie.path.as_deref().filter(|path| !path.is_empty()) {
        suffix.push_str(&format!("; Path={path}"));
    }
    for attribute in &cookie.attributes {
        suffix.push_str(&format!("; {}", attribute.name));
        if let Some(value) = attribute.value.as_deref().filter(|value| !value.is_empty()) {
            suffix.push_str(&format!("={value}"));
        }
    }
    suffix + "; HttpOnly"
}
