//! Control driven in memory.
