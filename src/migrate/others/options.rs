//! What is new beside another gateway needs names.

use crate::base::ObjectName;

/// Names of what is new.
#[derive(Clone, Debug)]
pub struct OtherOptions {
    /// The GatewayClass of new Gateways.
    pub class: Box<str>,
    /// The Gateway of routes that hung on none.
    pub gateway: ObjectName,
}
