//! What a table answers.

/// A host that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index into the hosts the balancer was built from.
    pub host: u32,
    /// Index into the table of the priority level that was chosen.
    pub entry: u32,
}
