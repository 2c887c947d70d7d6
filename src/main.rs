//! The `clingfish` command.

fn main() {}
