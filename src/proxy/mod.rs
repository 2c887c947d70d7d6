//! The data plane: listeners, accept, HTTP, forwarding.
mod h1;
