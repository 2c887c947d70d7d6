//! Flags and environment, validated: the only reader of the environment.
