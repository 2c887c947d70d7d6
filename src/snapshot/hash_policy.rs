//! Where the key of a request is read.

use std::sync::Arc;

use http::HeaderName;

use super::pattern::Pattern;

/// One hash policy: where the key is read, and whether the walk ends here once there is any hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashPolicy {
    /// Where the key is read.
    pub source: HashSource,
    /// Stop after this policy if any hash exists so far, from this policy or an earlier one.
    pub terminal: bool,
}

/// Where a hash key is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashSource {
    /// All values of a header.
    Header(HeaderName),
    /// The `:authority` (Host), `:path` (with query), `:method` or `:scheme` of the request: Envoy's pseudo headers.
    PseudoHeader(Box<str>),
    /// A cookie.
    Cookie(CookiePolicy),
    /// A cookie that is generated and carries the tag of a host behind its value. The value alone is hashed.
    TaggedCookie(CookiePolicy),
    /// The client's address, after X-Forwarded-For was evaluated.
    SourceIp,
    /// As much of the client's address, in bits.
    SourcePrefix {
        /// Of an IPv4 address, at most 32.
        ipv4: u8,
        /// Of an IPv6 address, at most 128.
        ipv6: u8,
    },
    /// What a pattern makes of the values of a header.
    RewrittenHeader(Box<RewrittenHeader>),
    /// A query parameter, by its undecoded name. Not in Gloo's types.
    QueryParameter(Box<str>),
    /// A segment of the path as it is sent to the host, counted from 1. An empty one counts as absent.
    PathSegment(u16),
    /// A claim of a token.
    JwtClaim(Box<JwtClaim>),
}

/// A cookie as hash key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePolicy {
    /// Name of the cookie, case-sensitive.
    pub name: Box<str>,
    /// Present: a missing cookie is generated. In whole seconds; 0 is a session cookie, without Max-Age.
    pub ttl_seconds: Option<u64>,
    /// Everything that follows the quoted value in Set-Cookie, rendered once: `; Max-Age=60; Path=/; HttpOnly`.
    pub set_cookie_suffix: Box<str>,
    /// Whether `; Secure` is added where the request came by HTTPS.
    pub secure_over_https: bool,
}

/// A header of which something else than its value is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewrittenHeader {
    /// Name of the header.
    pub name: HeaderName,
    /// What is replaced, each time it is found.
    pub pattern: Arc<Pattern>,
    /// What takes its place, in the form of the regex crate.
    pub substitution: Box<str>,
}

/// A claim of a JSON Web Token (RFC 7519). Nobody verifies the token here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtClaim {
    /// Header with the token.
    pub header: HeaderName,
    /// Name of the claim.
    pub claim: Box<str>,
}
