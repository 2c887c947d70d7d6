//! What an AffinityPolicy asks for, read and checked.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use crate::api::{
    AffinityAlgorithm, AffinityCarrier, AffinityCookie, AffinityHeader, AffinityKey, AffinityPolicySpec, AffinityRegex, AffinityRollout,
    AffinitySourceIp, Uint,
};
use crate::base::{ObjectName, text::quoted};
use crate::lb::{BalancerConfig, MaglevConfig, Policy, RING_SIZE_LIMIT, RingConfig};
use crate::snapshot::{
    Affinity, Carrier, CookiePolicy, Extent, HashPolicy, HashSource, Hold, JwtClaim, MissingKey, RewrittenHeader, Split, TagCarrier,
};
use crate::translate::patterns::Allowance;
use http::HeaderName;

use super::{
    fields::{Wrong, duration, missing, number, unknown, word},
    warm_up::{self, WarmUp},
};

/// Longest that a cookie lives: browsers keep none for longer (RFC 6265bis, section 5.5).
const LONGEST_COOKIE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// The cookie that carries the tag of a session's pod, where nothing else does.
const TAG_COOKIE: &str = "clingfish-affinity";

/// How long a pod waits for a slot, and a slot for a pod, unless a policy says otherwise; and the longest that one may say.
const SPARE_TIME: Duration = Duration::from_secs(30);
const LONGEST_SPARE_TIME: Duration = Duration::from_secs(60 * 60);

/// Within which time streams whose session has moved are told to go, unless a policy says otherwise; and the longest that one may say.
const JITTER: Duration = Duration::from_secs(30);
const LONGEST_JITTER: Duration = Duration::from_secs(60 * 60);

/// What an AffinityPolicy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct AffinitySettings {
    /// Of requests.
    pub(in crate::translate) affinity: Arc<Affinity>,
    /// Of the table.
    pub(in crate::translate) table: TableSettings,
    /// Slots are numbered anew once for each value of this.
    pub(in crate::translate) renumber: Option<Box<str>>,
}

/// What a policy asks for of the table of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) struct TableSettings {
    /// Ring hash or Maglev; `None`: that of the backend if it has one, else Maglev.
    pub(in crate::translate) policy: Option<Policy>,
    /// Percent of the average load that a host may have.
    pub(in crate::translate) bound: Option<u32>,
    /// What stands for a host.
    pub(in crate::translate) identity: Identity,
    /// How a new host comes to its share; `None`: it has it at once.
    pub(in crate::translate) warm_up: Option<WarmUp>,
}

/// What stands for a host in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) enum Identity {
    /// Its address.
    #[default]
    Address,
    /// The number at the end of its host name.
    Ordinal,
    /// The number of its slot.
    Slot {
        /// How long a pod waits for a slot before it opens one of its own, and a slot for a pod.
        spare_seconds: u64,
    },
}

// === impl TableSettings ===

impl TableSettings {
    /// Lays the table over what a backend says of its balancer.
    pub(in crate::translate) fn apply(&self, balancer: &mut BalancerConfig) {
        let hashes = matches!(balancer.policy, Policy::RingHash(_) | Policy::Maglev(_));
        match &self.policy {
            Some(policy) => balancer.policy = policy.clone(),
            None if hashes => {}
            None => balancer.policy = Policy::Maglev(MaglevConfig::default()),
        }
        balancer.hash_balance_factor = self.bound.or(balancer.hash_balance_factor);
    }
}

/// Reads the spec. `name`: of the policy.
pub(super) fn read(spec: &AffinityPolicySpec, name: &ObjectName, allowance: &Allowance<'_>) -> Result<AffinitySettings, Wrong> {
    unknown("spec", &spec.other)?;
    let all = match word("spec.combine", spec.combine.as_deref(), &["First", "All"])? {
        Some("All") => true,
        Some(_) | None => false,
    };
    let mut keys = spec.keys.as_ref().map(|keys| read_keys(keys, all, allowance)).transpose()?;
    let missing = match word("spec.missing", spec.missing.as_deref(), &["Random", "Connection", "Reject"])? {
        Some("Connection") => MissingKey::Connection,
        Some("Reject") => MissingKey::Reject,
        Some(_) | None => MissingKey::Random,
    };
    let hold = hold(spec, keys.as_deref_mut())?;
    let affinity =
        Affinity { policy: name.clone(), keys, missing, split: split(spec)?, hold, ends_moved: ends_moved(spec.rollout.as_ref())? };
    Ok(AffinitySettings { affinity: Arc::new(affinity), table: table(spec)?, renumber: None })
}

/// Within which time streams whose session has moved are told to go; `None`: they stay.
fn ends_moved(rollout: Option<&AffinityRollout>) -> Result<Option<Duration>, Wrong> {
    const FIELD: &str = "spec.rollout";
    let Some(rollout) = rollout else { return Ok(None) };
    unknown(FIELD, &rollout.other)?;
    let jitter = rollout.jitter.as_deref().map(|jitter| duration("spec.rollout.jitter", jitter, LONGEST_JITTER)).transpose()?;
    match word("spec.rollout.onRemap", rollout.on_remap.as_deref(), &["Keep", "Close"])? {
        Some("Close") => Ok(Some(jitter.unwrap_or(JITTER))),
        _ if jitter.is_some() => Err(format!("{FIELD}.jitter: expected onRemap to be Close beside it")),
        Some(_) | None => Ok(None),
    }
}

fn table(spec: &AffinityPolicySpec) -> Result<TableSettings, Wrong> {
    let policy = spec.algorithm.as_ref().map(algorithm).transpose()?;
    let bound = match &spec.load {
        Some(load) => {
            unknown("spec.load", &load.other)?;
            load.bound_percent.map(|percent| number("spec.load.boundPercent", percent, 100, 100_000)).transpose()?
        }
        None => None,
    };
    Ok(TableSettings { policy, bound, identity: identity(spec)?, warm_up: spec.warm_up.as_ref().map(warm_up::read).transpose()? })
}

fn identity(spec: &AffinityPolicySpec) -> Result<Identity, Wrong> {
    const FIELD: &str = "spec.spareTime";
    let spare = spec.spare_time.as_deref().map(|time| duration(FIELD, time, LONGEST_SPARE_TIME)).transpose()?;
    match (word("spec.identity", spec.identity.as_deref(), &["Address", "Ordinal", "Slot"])?, spare) {
        (Some("Slot"), spare) => Ok(Identity::Slot { spare_seconds: spare.unwrap_or(SPARE_TIME).as_secs() }),
        (_, Some(_)) => Err(format!("{FIELD}: expected spec.identity to be Slot beside it")),
        (Some("Ordinal"), None) => Ok(Identity::Ordinal),
        (_, None) => Ok(Identity::Address),
    }
}

fn algorithm(algorithm: &AffinityAlgorithm) -> Result<Policy, Wrong> {
    const FIELD: &str = "spec.algorithm";
    unknown(FIELD, &algorithm.other)?;
    match (&algorithm.maglev, &algorithm.ring_hash) {
        (Some(maglev), None) => {
            unknown("spec.algorithm.maglev", &maglev.other)?;
            let config = maglev.table_size.map_or_else(MaglevConfig::default, |size| MaglevConfig { table_size: size.0 });
            config.validate().map_err(|error| format!("{FIELD}.maglev.tableSize: {error}"))?;
            Ok(Policy::Maglev(config))
        }
        (None, Some(ring)) => {
            unknown("spec.algorithm.ringHash", &ring.other)?;
            let defaults = RingConfig::default();
            let config = RingConfig {
                minimum_ring_size: ring.min.map_or(defaults.minimum_ring_size, |min| min.0),
                maximum_ring_size: ring.max.map_or(defaults.maximum_ring_size, |max| max.0),
                ..defaults
            };
            if config.minimum_ring_size > config.maximum_ring_size || config.maximum_ring_size > RING_SIZE_LIMIT {
                let (min, max) = (config.minimum_ring_size, config.maximum_ring_size);
                return Err(format!("{FIELD}.ringHash: min is {min} and max is {max}: expected min <= max <= {RING_SIZE_LIMIT}"));
            }
            Ok(Policy::RingHash(config))
        }
        (Some(_), Some(_)) | (None, None) => Err(format!("{FIELD}: expected exactly one of maglev and ringHash")),
    }
}

fn split(spec: &AffinityPolicySpec) -> Result<Split, Wrong> {
    let named_by = spec.split_override.as_ref().map(|named| carrier("spec.splitOverride", named, None)).transpose()?;
    match (word("spec.split", spec.split.as_deref(), &["Random", "Hash"])?, named_by) {
        (Some("Hash"), named_by) => Ok(Split::Hash { named_by }),
        (_, Some(_)) => Err("spec.splitOverride: expected spec.split to be Hash beside it".to_owned()),
        (_, None) => Ok(Split::Random),
    }
}

/// How sessions are held. The cookie that carries the tag behind its value becomes such a key.
fn hold(spec: &AffinityPolicySpec, keys: Option<&mut [HashPolicy]>) -> Result<Option<Hold>, Wrong> {
    const FIELD: &str = "spec.holdIn";
    let holds = word("spec.hold", spec.hold.as_deref(), &["None", "WhileAlive"])? == Some("WhileAlive");
    let keys = keys.unwrap_or_default();
    let carrier = match &spec.hold_in {
        Some(_) if !holds => return Err(format!("{FIELD}: expected spec.hold to be WhileAlive beside it")),
        None if !holds => return Ok(None),
        Some(given) => tag_carrier(FIELD, given, keys)?,
        None => match keys.iter_mut().find_map(generated) {
            Some(cookie) => TagCarrier::KeyCookie(cookie),
            None => TagCarrier::Cookie(tag_cookie(FIELD, &AffinityCookie::default())?),
        },
    };
    Ok(Some(Hold { carrier, persistence: None }))
}

/// The generated cookie that is a key, which from now on carries a tag.
fn generated(key: &mut HashPolicy) -> Option<CookiePolicy> {
    let HashSource::Cookie(cookie) = &key.source else { return None };
    let cookie = cookie.clone();
    cookie.ttl_seconds?;
    key.source = HashSource::TaggedCookie(cookie.clone());
    Some(cookie)
}

fn tag_carrier(field: &str, given: &AffinityCarrier, keys: &[HashPolicy]) -> Result<TagCarrier, Wrong> {
    let is_key = match carrier(field, given, Some(TAG_COOKIE))? {
        Carrier::Cookie(name) => keys.iter().any(|key| matches!(&key.source, HashSource::Cookie(cookie) if cookie.name == name)),
        Carrier::Header(name) => {
            if keys.iter().any(|key| matches!(&key.source, HashSource::Header(header) if *header == name)) {
                return Err(format!("{field}.header.name is {name}: expected another name than that of a key"));
            }
            return Ok(TagCarrier::Header(name));
        }
    };
    if is_key {
        return Err(format!(
            "{field}.cookie.name: expected another name than that of a key, or no holdIn: a generated cookie carries both"
        ));
    }
    Ok(TagCarrier::Cookie(tag_cookie(field, &given.cookie.clone().unwrap_or_default())?))
}

/// A cookie of its own; without a lifetime it lives until the browser ends.
fn tag_cookie(field: &str, given: &AffinityCookie) -> Result<CookiePolicy, Wrong> {
    let named = AffinityCookie { name: given.name.clone().or_else(|| Some(TAG_COOKIE.to_owned())), ..given.clone() };
    cookie_source(&format!("{field}.cookie"), &named)
}

/// `default`: name of a cookie that has none.
fn carrier(field: &str, carrier: &AffinityCarrier, default: Option<&str>) -> Result<Carrier, Wrong> {
    unknown(field, &carrier.other)?;
    match (&carrier.cookie, &carrier.header) {
        (Some(cookie), None) => {
            unknown(&format!("{field}.cookie"), &cookie.other)?;
            Ok(Carrier::Cookie(cookie_name(&format!("{field}.cookie.name"), cookie.name.as_deref().or(default))?.into()))
        }
        (None, Some(header)) => {
            unknown(&format!("{field}.header"), &header.other)?;
            if header.regex.is_some() {
                return Err(format!("{field}.header.regex: expected none, the value is taken as it is"));
            }
            Ok(Carrier::Header(header_name(&format!("{field}.header.name"), header.name.as_deref())?))
        }
        (Some(_), Some(_)) | (None, None) => Err(format!("{field}: expected exactly one of cookie and header")),
    }
}

fn read_keys(keys: &[AffinityKey], all: bool, allowance: &Allowance<'_>) -> Result<Box<[HashPolicy]>, Wrong> {
    let mut read = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        let field = format!("spec.keys[{index}]");
        unknown(&field, &key.other)?;
        if key.terminal.is_some() && !all {
            return Err(format!("{field}.terminal: expected spec.combine to be All beside it; with First every key is"));
        }
        read.push(HashPolicy { source: source(&field, key, allowance)?, terminal: !all || key.terminal == Some(true) });
    }
    Ok(read.into())
}

fn source(field: &str, key: &AffinityKey, allowance: &Allowance<'_>) -> Result<HashSource, Wrong> {
    let AffinityKey { cookie, header, query_param, path_segment, jwt_claim, source_ip, terminal: _, other: _ } = key;
    let given =
        [cookie.is_some(), header.is_some(), query_param.is_some(), path_segment.is_some(), jwt_claim.is_some(), source_ip.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(one_key(field));
    }
    if let Some(made) = cookie {
        return cookie_source(&format!("{field}.cookie"), made).map(HashSource::Cookie);
    }
    if let Some(header) = header {
        return header_source(&format!("{field}.header"), header, allowance);
    }
    if let Some(parameter) = query_param {
        let field = format!("{field}.queryParam");
        unknown(&field, &parameter.other)?;
        let name = parameter.name.as_deref().filter(|name| !name.is_empty());
        return name.map(|name| HashSource::QueryParameter(name.into())).ok_or_else(|| missing(&field, "name", "the name of a parameter"));
    }
    if let Some(segment) = path_segment {
        let segment = number(&format!("{field}.pathSegment"), *segment, 1, 64)?;
        return Ok(HashSource::PathSegment(u16::try_from(segment).unwrap_or(u16::MAX)));
    }
    if let Some(claim) = jwt_claim {
        let field = format!("{field}.jwtClaim");
        unknown(&field, &claim.other)?;
        let name = claim.claim.as_deref().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| missing(&field, "claim", "the name of a claim, such as sub"))?;
        let header = header_name(&format!("{field}.header"), Some(claim.header.as_deref().unwrap_or("authorization")))?;
        return Ok(HashSource::JwtClaim(Box::new(JwtClaim { header, claim: name.into() })));
    }
    source_ip.as_ref().map_or_else(|| Err(one_key(field)), |source| address_source(&format!("{field}.sourceIP"), source))
}

fn one_key(field: &str) -> Wrong {
    format!("{field}: expected exactly one of cookie, header, queryParam, pathSegment, jwtClaim and sourceIP")
}

fn address_source(field: &str, source: &AffinitySourceIp) -> Result<HashSource, Wrong> {
    unknown(field, &source.other)?;
    let Some(length) = &source.prefix_length else { return Ok(HashSource::SourceIp) };
    let field = format!("{field}.prefixLength");
    unknown(&field, &length.other)?;
    let bits = |family: &str, bits: Option<Uint>, most: u32| match bits {
        Some(bits) => number(&format!("{field}.{family}"), bits, 0, most),
        None => Ok(most),
    };
    let (ipv4, ipv6) = (bits("ipv4", length.ipv4, 32)?, bits("ipv6", length.ipv6, 128)?);
    Ok(HashSource::SourcePrefix { ipv4: u8::try_from(ipv4).unwrap_or(32), ipv6: u8::try_from(ipv6).unwrap_or(128) })
}

fn header_source(field: &str, header: &AffinityHeader, allowance: &Allowance<'_>) -> Result<HashSource, Wrong> {
    unknown(field, &header.other)?;
    let written = header.name.as_deref().unwrap_or_default();
    // Envoy keeps Host as `:authority`.
    if header.regex.is_none() && (written.eq_ignore_ascii_case("host") || written.eq_ignore_ascii_case(":authority")) {
        return Ok(HashSource::PseudoHeader(":authority".into()));
    }
    let name = header_name(&format!("{field}.name"), header.name.as_deref())?;
    match &header.regex {
        None => Ok(HashSource::Header(name)),
        Some(regex) => rewritten(&format!("{field}.regex"), name, regex, allowance),
    }
}

fn rewritten(field: &str, name: HeaderName, regex: &AffinityRegex, allowance: &Allowance<'_>) -> Result<HashSource, Wrong> {
    unknown(field, &regex.other)?;
    let source = regex.pattern.as_deref().filter(|source| !source.is_empty());
    let source = source.ok_or_else(|| missing(field, "pattern", "a regular expression"))?;
    let pattern = allowance
        .compile(source, Extent::Anywhere)
        .map_err(|error| format!("{field}.pattern is {}: expected a regular expression in RE2's syntax: {error}", quoted(source)))?;
    let written = regex.substitution.as_deref().unwrap_or_default();
    let substitution = crate::translate::patterns::substitution(written, pattern.regex())
        .map_err(|why| format!("{field}.substitution is {}: {why}", quoted(written)))?;
    Ok(HashSource::RewrittenHeader(Box::new(RewrittenHeader { name, pattern, substitution: substitution.into() })))
}

fn cookie_source(field: &str, cookie: &AffinityCookie) -> Result<CookiePolicy, Wrong> {
    unknown(field, &cookie.other)?;
    let name = cookie_name(&format!("{field}.name"), cookie.name.as_deref())?;
    let ttl_seconds =
        cookie.ttl.as_deref().map(|ttl| duration(&format!("{field}.ttl"), ttl, LONGEST_COOKIE)).transpose()?.map(|ttl| ttl.as_secs());
    let (suffix, secure_over_https) = attributes(field, cookie, ttl_seconds)?;
    Ok(CookiePolicy { name: name.into(), ttl_seconds, set_cookie_suffix: suffix.into(), secure_over_https })
}

/// What follows the value in Set-Cookie, and whether `; Secure` is added over HTTPS.
fn attributes(field: &str, cookie: &AffinityCookie, max_age: Option<u64>) -> Result<(String, bool), Wrong> {
    let printable = |member: &str, value: Option<&str>| match value {
        Some(value) if !value.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b';') => {
            Err(format!("{field}.{member} is {}: expected printable ASCII without ';' and spaces", quoted(value)))
        }
        Some(_) | None => Ok(()),
    };
    printable("path", cookie.path.as_deref())?;
    printable("domain", cookie.domain.as_deref())?;
    let mut suffix = String::new();
    if let Some(max_age) = max_age.filter(|max_age| *max_age > 0) {
        let _infallible = write!(suffix, "; Max-Age={max_age}");
    }
    let _infallible = write!(suffix, "; Path={}", cookie.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/"));
    if let Some(domain) = cookie.domain.as_deref().filter(|domain| !domain.is_empty()) {
        let _infallible = write!(suffix, "; Domain={domain}");
    }
    if cookie.http_only != Some(false) {
        suffix.push_str("; HttpOnly");
    }
    let same_site = word(&format!("{field}.sameSite"), cookie.same_site.as_deref(), &["Lax", "Strict", "None"])?;
    if let Some(same_site) = same_site {
        let _infallible = write!(suffix, "; SameSite={same_site}");
    }
    match word(&format!("{field}.secure"), cookie.secure.as_deref(), &["Auto", "Always", "Never"])? {
        Some("Never") if same_site == Some("None") => {
            Err(format!("{field}.secure is Never: expected Auto or Always beside sameSite: None, since browsers drop the cookie else"))
        }
        Some("Never") => Ok((suffix, false)),
        Some("Always") => Ok((suffix + "; Secure", false)),
        Some(_) | None => Ok((suffix, true)),
    }
}

fn cookie_name<'n>(field: &str, name: Option<&'n str>) -> Result<&'n str, Wrong> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| format!("{field} is missing: expected the name of a cookie"))?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.bytes().all(is_token) {
        Ok(name)
    } else {
        Err(format!("{field} is {}: expected a token (no spaces, no separators)", quoted(name)))
    }
}

fn header_name(field: &str, name: Option<&str>) -> Result<HeaderName, Wrong> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| format!("{field} is missing: expected the name of a header"))?;
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{field} is {}: expected the name of a header (letters, digits, '-' and the like)", quoted(name)))
}
