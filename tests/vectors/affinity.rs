//! Hash policies on a recorded request: the only place that knows how a request becomes a hash.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clingfish::lb::{HashAccumulator, generated_cookie_value, header_values_hash, source_ip_hash, xxh64};
use regex::bytes::Regex;

use crate::format::{Cookie, Expectation, HashPolicy, Key};

/// What the policies make of a request.
pub(crate) struct Affinity {
    pub(crate) hash: Option<u64>,
    pub(crate) set_cookie: Vec<String>,
}

/// A case's hash policies, ready to use.
pub(crate) struct Policies(Vec<(Source, bool)>);

enum Source {
    Header { name: String, rewrite: Option<(Regex, Vec<u8>)> },
    Cookie { name: String, ttl: Option<f64>, suffix: String },
    ClientAddress,
    Query(String),
}

/// A recorded request.
struct Request<'a> {
    /// Names in lower case; `:authority` and `:path` among them.
    headers: Vec<(String, &'a str)>,
    connection: Option<(SocketAddr, SocketAddr)>,
    peer: IpAddr,
}

impl Policies {
    pub(crate) fn new(policies: &[HashPolicy]) -> Result<Self, String> {
        let mut sources = Vec::new();
        for policy in policies {
            if let Some(source) = source(policy)? {
                sources.push((source, policy.terminal));
            }
        }
        Ok(Self(sources))
    }

    pub(crate) fn evaluate(&self, expected: &Expectation) -> Result<Affinity, String> {
        let request = self.request(expected)?;
        let mut hash = HashAccumulator::default();
        let mut set_cookie = Vec::new();
        for (source, terminal) in &self.0 {
            let new = match source {
                Source::Header { name, rewrite } => request.header_hash(name, rewrite.as_ref()),
                Source::Cookie { name, ttl, suffix } => match (request.cookie(name), ttl) {
                    (Some(value), _) => Some(xxh64(value, 0)),
                    (None, None) => None,
                    (None, Some(_)) => {
                        let (remote, local) = request.connection.ok_or("a cookie is generated from unknown addresses")?;
                        let value = generated_cookie_value(remote, local);
                        set_cookie.push(format!("{name}=\"{}\"{suffix}", String::from_utf8_lossy(&value)));
                        Some(xxh64(&value, 0))
                    }
                },
                Source::ClientAddress => Some(source_ip_hash(request.client_address())),
                Source::Query(name) => request.query(name).map(|value| xxh64(value.as_bytes(), 0)),
            };
            if let Some(new) = new {
                hash.add(new);
            }
            if *terminal && hash.value().is_some() {
                break;
            }
        }
        Ok(Affinity { hash: hash.value(), set_cookie })
    }

    /// Where nothing else is recorded, the key is what the policies hash.
    fn request<'a>(&self, expected: &'a Expectation) -> Result<Request<'a>, String> {
        let mut headers: Vec<(String, &str)> = Vec::new();
        let mut add = |sent: &'a [(String, String)]| {
            headers.extend(sent.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str())));
        };
        let mut connection = None;
        let mut peer = None;
        if let Some(request) = &expected.request {
            add(&request.headers);
        }
        match &expected.key {
            Key::Connection(ends) => {
                let end = |text: &str| text.parse::<SocketAddr>().map_err(|error| format!("{text}: {error}"));
                let (remote, local) = (end(&ends.remote)?, end(&ends.local)?);
                add(&ends.headers);
                peer = Some(remote.ip());
                connection = Some((remote, local));
            }
            Key::Text(text) => {
                let only_source_ip = matches!(self.0[..], [(Source::ClientAddress, _)]);
                match expected.request {
                    None if only_source_ip => peer = Some(text.parse().map_err(|error| format!("{text}: {error}"))?),
                    None => headers.push(("x-user".into(), text)),
                    Some(_) => {}
                }
                if !headers.iter().any(|(name, _)| name == "host" || name == ":authority") {
                    headers.push((":authority".into(), text));
                }
            }
        }
        for (name, _) in &mut headers {
            if name == "host" {
                *name = ":authority".into();
            }
        }
        if let Some(path) = expected.request.as_ref().and_then(|request| request.path.as_deref()) {
            headers.push((":path".into(), path));
        }
        // The recordings were made on loopback.
        Ok(Request { headers, connection, peer: peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)) })
    }
}

fn source(policy: &HashPolicy) -> Result<Option<Source>, String> {
    let HashPolicy { header, regex, substitution, cookie, source_ip, query, terminal: _ } = policy;
    if header.is_none() && (regex.is_some() || substitution.is_some()) {
        return Err("`regex` and `substitution` belong to `header`".into());
    }
    match (header, cookie, source_ip, query) {
        (Some(name), None, None, None) => {
            let rewrite = match (regex, substitution) {
                (None, None) => None,
                (Some(regex), substitution) => {
                    let regex = Regex::new(regex).map_err(|error| error.to_string())?;
                    Some((regex, replacement(substitution.as_deref().unwrap_or_default())))
                }
                (None, Some(_)) => return Err("`substitution` without `regex`".into()),
            };
            Ok(Some(Source::Header { name: name.to_ascii_lowercase(), rewrite }))
        }
        (None, Some(cookie), None, None) => Ok(Some(Source::Cookie { name: cookie.name.clone(), ttl: cookie.ttl, suffix: suffix(cookie) })),
        (None, None, Some(true), None) => Ok(Some(Source::ClientAddress)),
        (None, None, Some(false), None) => Ok(None),
        (None, None, None, Some(name)) => Ok(Some(Source::Query(name.clone()))),
        _ => Err("a policy needs exactly one of `header`, `cookie`, `source_ip`, `query`".into()),
    }
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

impl Request<'_> {
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(found, _)| found == name).map(|(_, value)| *value)
    }

    fn header_hash(&self, name: &str, rewrite: Option<&(Regex, Vec<u8>)>) -> Option<u64> {
        let values: Vec<Vec<u8>> = self
            .values(name)
            .map(|value| {
                let value = value.trim_matches([' ', '\t']).as_bytes();
                rewrite.map_or_else(|| value.to_vec(), |(regex, by)| regex.replace_all(value, by.as_slice()).into_owned())
            })
            .collect();
        header_values_hash(&mut values.iter().map(Vec::as_slice).collect())
    }

    /// The first cookie of that name, if it is not empty.
    fn cookie(&self, name: &str) -> Option<&[u8]> {
        let pairs = self.values("cookie").flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.into_iter().find(|(found, _)| found.trim_start_matches(' ') == name)?;
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        (!unquoted.is_empty()).then_some(unquoted.as_bytes())
    }

    fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.values(":path").next()?.split_once('?')?;
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(found, _)| *found == name).map(|pair| pair.1)
    }

    /// The right-most address of X-Forwarded-For, or the peer.
    fn client_address(&self) -> IpAddr {
        let last = self.values("x-forwarded-for").last().and_then(|line| line.rsplit(',').next());
        last.and_then(|entry| entry.trim().parse().ok()).unwrap_or(self.peer)
    }
}
