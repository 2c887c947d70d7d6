//! The port of the demo's gateway.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::app::{error::CommandError, serve::App};
use crate::snapshot::{BindAddress, BindState};

/// The port, or a free one for 0; an error with what to do where it is taken.
pub(super) fn free_port(port: u16) -> Result<u16, CommandError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| busy(port, &error.to_string()))?;
    Ok(listener.local_addr()?.port())
}

/// Whether the gateway listens.
pub(super) fn check_listener(app: &App, port: u16) -> Result<(), CommandError> {
    let address = BindAddress::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    match app.bound().borrow().state(address) {
        Some(BindState::Failed(error) | BindState::NoAddress(error)) => Err(busy(port, &error)),
        Some(BindState::Bound) | None => Ok(()),
    }
}

fn busy(port: u16, error: &str) -> CommandError {
    CommandError::Message(format!("port {port} of 127.0.0.1: {error}; choose another one with --port, or any free one with --port 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_says_what_to_do() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = free_port(taken.local_addr().unwrap().port()).unwrap_err().to_string();
        assert!(error.contains("--port 0"), "{error}");
    }
}
