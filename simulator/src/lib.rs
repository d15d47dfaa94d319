//! The three machines together on a seeded network and virtual time.
