//! Drives host-core over ring: the public library
