//! What is new beside an installation of Gloo needs names of its own.

/// What the twins are called.
#[derive(Clone, Debug)]
pub struct MigrationOptions {
    /// The GatewayClass of the twins.
    pub class: Box<str>,
    /// What a twin's name ends in.
    pub suffix: Box<str>,
}
