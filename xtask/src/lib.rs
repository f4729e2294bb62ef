//! What is checked about the house itself, and against peers of other makes, as libraries that chores and tests share.

pub mod audit;
pub mod bench;
pub mod house;
pub mod instructions;
pub mod interop;
pub mod language;
pub mod pcap;
pub mod sim;
pub mod tables;
