//! The life of a request or of a stream: what is decided on it, its attempts, its copies, its deadlines and its record.

pub(super) mod body_copy;
pub(super) mod client_body;
pub(super) mod context;
pub(super) mod forward;
pub(super) mod guard;
pub(super) mod mirror;
pub(super) mod replay;
pub(super) mod reply;
pub(super) mod request;
pub(super) mod request_body;
pub(super) mod response_body;
pub(super) mod retry;
pub(super) mod stream;
pub(super) mod upgrade;
