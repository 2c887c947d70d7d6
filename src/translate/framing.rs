//! Headers that filters and options must not change.

use http::{HeaderName, header};

/// Headers that frame a message or belong to a connection: changing them would break or split messages.
const FRAMING: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether a header frames the message or belongs to the connection. To add one is an error. To remove one has no effect: the gateway writes
/// its own where a message needs it.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    FRAMING.contains(name)
}
