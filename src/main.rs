//! azfed
fn main() {}
