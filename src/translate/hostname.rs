//! Hostnames as Gateway API allows them.

use std::net::IpAddr;

use crate::base::text::quoted;
use crate::snapshot::Hostname;

/// Parses the hostname of a listener or route; empty is any.
///
/// # Errors
/// What is wrong and what was expected.
pub(super) fn parse(text: &str) -> Result<Hostname, String> {
    if !text.is_empty() {
        check(text.strip_prefix("*.").unwrap_or(text), text)?;
    }
    Ok(Hostname::parse(text))
}

/// Checks a hostname without wildcard, as redirects and rewrites take it.
///
/// # Errors
/// What is wrong and what was expected.
pub(super) fn check_precise(text: &str) -> Result<(), String> {
    check(text, text)
}

fn check(name: &str, written: &str) -> Result<(), String> {
    if name.parse::<IpAddr>().is_ok() {
        return Err(format!("{} is an IP address; expected a DNS name", quoted(written)));
    }
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(format!("{} is no hostname; expected DNS labels of letters, digits and '-', and '*.' only in front", quoted(written)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_are_dns_names_with_an_optional_wildcard_in_front() {
        for good in ["", "a", "example.com", "*.example.com", "*.com", "A.Example.com", "1.a", "xn--a-b.c"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["*", "*a.com", "a.*.com", "10.0.0.1", "*.10.0.0.1", "a..b", "-a.b", "a_b.c", "a.b.", "a:80", "a/b", " ", "ä.b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(check_precise("*.a").is_err());
    }
}
