//! Logging, metric families, access log.
