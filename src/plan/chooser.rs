//! What choosing needs beside snapshot and request.

/// The worker's own random numbers and turns.
#[derive(Debug)]
pub struct Chooser {
    /// Random numbers of this worker.
    pub random: fastrand::Rng,
    /// Round-robin turns by cluster id, grown as needed.
    pub turns: Vec<u64>,
}
