//! Chores: what CI and people run around the product.
fn main() {}
