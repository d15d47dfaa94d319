//! Run a big batch of numbered tasks and end with exactly one recorded result per number.

fn main() {}
