//! What `validate` prints.
