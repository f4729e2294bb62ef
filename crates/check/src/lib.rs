//! Verified load, the oracle and the verdict: the only place where stale is defined
