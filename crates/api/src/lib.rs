//! Versioned plain data: receipts, events, drill results
