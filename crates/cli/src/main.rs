//! The one binary, `interlock`: parses, calls, prints.
fn main() {}
