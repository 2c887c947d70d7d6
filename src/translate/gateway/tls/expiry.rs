//! Notices about certificates that expire soon or have expired. They are still served.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::base::{ObjectName, text::word};
use crate::snapshot::Certificate;
use crate::translate::gateway::listener::CompiledListener;

/// How long before it expires a certificate is spoken of, in seconds: 14 days.
const NOTICE_BEFORE: i64 = 14 * 24 * 3600;

/// What there is to say at this hour (since the epoch), by Secret. The words change only when something else is true.
pub(in crate::translate) fn notices(name: &ObjectName, listeners: &[CompiledListener], hour: Option<i64>) -> Vec<String> {
    let Some(now) = hour.map(|hour| hour * 3600) else { return Vec::new() };
    let mut by_secret: BTreeMap<(&ObjectName, &str), (Vec<String>, &Certificate)> = BTreeMap::new();
    for listener in listeners.iter().filter(|listener| listener.is_valid()) {
        for certificate in listener.tls.iter().flat_map(|tls| tls.certificates.iter()) {
            let (listeners, _) = by_secret.entry((&certificate.secret, &certificate.fingerprint)).or_insert((Vec::new(), certificate));
            listeners.push(word(&listener.shape.name).to_string());
        }
    }
    let said = by_secret.into_iter().filter_map(|((secret, fingerprint), (listeners, certificate))| {
        let what = state(certificate, now)?;
        let listeners = listeners.join(", ");
        Some(format!("Gateway {name}: listener {listeners}: the certificate of Secret {secret} (sha256 {fingerprint}) {what}"))
    });
    said.collect()
}

fn state(certificate: &Certificate, now: i64) -> Option<String> {
    let time = |seconds: i64| Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |time| time.to_string());
    let (from, until) = (certificate.not_before, certificate.not_after);
    if now >= until {
        Some(format!("expired at {}: it is still served, but clients refuse it", time(until)))
    } else if until - now <= NOTICE_BEFORE {
        Some(format!("expires at {}", time(until)))
    // The hour has begun up to 60 minutes ago.
    } else if now + 3600 < from {
        Some(format!("is not valid before {}: it is served already, but clients refuse it", time(from)))
    } else {
        None
    }
}
