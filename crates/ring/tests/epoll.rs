//! Every case, over epoll.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod cases;

const BACKEND: interlock_ring::Backend = interlock_ring::Backend::Epoll;
