//! The data plane: listeners, accept, HTTP, forwarding.
