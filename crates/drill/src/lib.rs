//! Scenarios on real sockets, load, verdict and report
