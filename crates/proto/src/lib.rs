//! One queue pair and one association as sans-io machines, host and target roles
