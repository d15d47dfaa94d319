//! The project's own commands: cargo xtask test, soak, simulate.

fn main() {}
