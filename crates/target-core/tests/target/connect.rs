//! Tests to follow.
