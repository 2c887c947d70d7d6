//! The page for people: one file that loads nothing from other servers. It reads `/config` and asks `/explain`.

/// The page.
pub(super) const HTML: &str = include_str!("page.html");

/// What the page may do: run its own script and style, and talk to this server.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";
