//! What is checked about the house itself, as libraries that chores and tests share.

pub mod house;
pub mod sim;
