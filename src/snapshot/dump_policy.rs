//! Policies of rules and clusters as JSON, for the dump of a snapshot.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lb::Admits;

use super::{
    Affinity, Carrier, CookiePath, CookiePolicy, HashPolicy, HashSource, Hold, Host, Jitter, MissingKey, Persistence, RetryPolicy,
    RoutePolicy, Split, TagCarrier, Timeouts,
};

pub(super) fn dump_policy(policy: &RoutePolicy) -> Value {
    let mut dumped = json!({
        "hash": policy.hash.iter().map(dump_hash_policy).collect::<Vec<_>>(),
        "timeouts": dump_timeouts(&policy.timeouts),
        "retry": policy.retry.as_ref().map(dump_retry),
    });
    if let (Some(affinity), Some(members)) = (&policy.affinity, dumped.as_object_mut()) {
        members.insert("affinity".to_owned(), dump_affinity(affinity));
    }
    if let (Some(hold), Some(members)) = (&policy.persistence, dumped.as_object_mut()) {
        members.insert("persistence".to_owned(), dump_persistence(hold));
    }
    dumped
}

fn dump_persistence(hold: &Hold) -> Value {
    let path = |persistence: &Persistence| match &persistence.path {
        CookiePath::Unset => Value::Null,
        CookiePath::Is(path) => json!(path),
        CookiePath::OfMatch => json!("that of the match"),
    };
    let persistence = hold.persistence.as_ref();
    let seconds = |timeout: Option<Duration>| timeout.map(|timeout| timeout.as_secs_f64());
    json!({
        "in": dump_tag_carrier(&hold.carrier),
        "scope": persistence.map(|persistence| &persistence.scope),
        "absolute_timeout_seconds": persistence.and_then(|persistence| seconds(persistence.absolute_timeout)),
        "idle_timeout_seconds": persistence.and_then(|persistence| seconds(persistence.idle_timeout)),
        "is_permanent": persistence.map(|persistence| persistence.is_permanent),
        "cookie_path": persistence.map(path),
    })
}

pub(super) fn dump_affinity(affinity: &Affinity) -> Value {
    let carrier = |carrier: &Carrier| match carrier {
        Carrier::Cookie(name) => json!({ "cookie": name }),
        Carrier::Header(name) => json!({ "header": name.as_str() }),
    };
    let missing = match affinity.missing {
        MissingKey::Random => "Random",
        MissingKey::Connection => "Connection",
        MissingKey::Reject => "Reject",
    };
    let split = match &affinity.split {
        Split::Random => json!("Random"),
        Split::Hash { named_by: None } => json!("Hash"),
        Split::Hash { named_by: Some(named_by) } => json!({ "Hash": carrier(named_by) }),
    };
    let mut dumped = json!({
        "policy": affinity.policy.to_string(),
        "keys": affinity.keys.as_ref().map(|keys| keys.iter().map(dump_hash_policy).collect::<Vec<_>>()),
        "missing": missing,
        "split": split,
    });
    if let (Some(jitter), Some(members)) = (affinity.ends_moved, dumped.as_object_mut()) {
        members.insert("ends_moved_streams_within_seconds".to_owned(), json!(jitter.as_secs_f64()));
    }
    if let (Some(hold), Some(members)) = (&affinity.hold, dumped.as_object_mut()) {
        members.insert("hold_in".to_owned(), dump_tag_carrier(&hold.carrier));
    }
    dumped
}

fn dump_tag_carrier(carrier: &TagCarrier) -> Value {
    match carrier {
        TagCarrier::KeyCookie(cookie) => json!({ "cookie_of_key": cookie.name }),
        TagCarrier::Cookie(cookie) => json!({ "cookie": dump_cookie(cookie) }),
        TagCarrier::Header(name) => json!({ "header": name.as_str() }),
    }
}

fn dump_cookie(cookie: &CookiePolicy) -> Value {
    json!({ "name": cookie.name, "ttl_seconds": cookie.ttl_seconds, "set_cookie_suffix": cookie.set_cookie_suffix })
}

/// Where a host stands in the table, where that is not by its address or for all of its hashes.
pub(super) fn dump_place(host: &Host, dumped: &mut Value) {
    let Some(members) = dumped.as_object_mut() else { return };
    members.extend(host.slot.map(|slot| ("slot".to_owned(), json!(slot))));
    let admits = match host.admits {
        Admits::All => None,
        Admits::Part(_) | Admits::None => Some(json!(host.admits.share())),
        Admits::Keyless => Some(json!("requests without a key")),
    };
    members.extend(admits.map(|admits| ("takes".to_owned(), admits)));
}

fn dump_hash_policy(policy: &HashPolicy) -> Value {
    let source = match &policy.source {
        HashSource::Header(name) => json!({ "header": name.as_str() }),
        HashSource::PseudoHeader(name) => json!({ "header": name }),
        HashSource::Cookie(cookie) | HashSource::TaggedCookie(cookie) => {
            json!({ "cookie": dump_cookie(cookie) })
        }
        HashSource::SourceIp => json!("sourceIp"),
        HashSource::SourcePrefix { ipv4, ipv6 } => json!({ "sourceIp": { "ipv4": ipv4, "ipv6": ipv6 } }),
        HashSource::RewrittenHeader(header) => {
            json!({ "header": header.name.as_str(), "regex": header.pattern.source(), "substitution": header.substitution })
        }
        HashSource::QueryParameter(name) => json!({ "query": name }),
        HashSource::PathSegment(segment) => json!({ "pathSegment": segment }),
        HashSource::JwtClaim(claim) => json!({ "claim": claim.claim, "of": claim.header.as_str() }),
    };
    json!({ "source": source, "terminal": policy.terminal })
}

fn dump_timeouts(timeouts: &Timeouts) -> Value {
    let mut dump = json!({
        "request_ms": timeouts.request.map(millis),
        "backend_request_ms": timeouts.backend_request.map(millis),
        "idle_ms": timeouts.idle.map(millis),
    });
    if let (Some(stall), Some(members)) = (timeouts.upload_stall, dump.as_object_mut()) {
        members.insert("upload_stall_ms".to_owned(), json!(millis(stall)));
    }
    dump
}

fn dump_retry(retry: &RetryPolicy) -> Value {
    let on = &retry.on;
    let conditions = [
        (on.connect_failure, "connect-failure"),
        (on.refused_stream, "refused-stream"),
        (on.reset, "reset"),
        (on.reset_before_request, "reset-before-request"),
        (on.server_error, "5xx"),
        (on.gateway_error, "gateway-error"),
        (on.retriable_4xx, "retriable-4xx"),
        (on.retriable_status_codes, "retriable-status-codes"),
    ];
    json!({
        "on": conditions.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| *name).collect::<Vec<_>>(),
        "grpc_statuses": (0..32).filter(|status| on.grpc.contains(*status)).collect::<Vec<_>>(),
        "attempts": retry.attempts,
        "status_codes": retry.status_codes.iter().map(http::StatusCode::as_u16).collect::<Vec<_>>(),
        "backoff_base_ms": millis(retry.backoff_base),
        "backoff_max_ms": millis(retry.backoff_max),
        "backoff_jitter": match retry.jitter {
            Jitter::Full => "full",
            Jitter::Above => "above",
        },
    })
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
