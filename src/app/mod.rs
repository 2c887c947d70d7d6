//! Composition root: wires everything and returns what it bound.
