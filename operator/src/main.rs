//! `harmony-operator`.

fn main() {}
