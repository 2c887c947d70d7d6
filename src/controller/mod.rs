//! Sources of change, the engine that translates and publishes, and (in a cluster) statuses.
