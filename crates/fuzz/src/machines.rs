//! The machines of both sides, against peers that do what a fuzzer says.

pub(crate) mod host;
pub(crate) mod target;
