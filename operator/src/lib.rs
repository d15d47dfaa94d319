//! The operator: reconciles `HarmonyBatch` resources and is the ventilator of each.

pub mod fleet;
mod leader;
pub mod reconcile;
pub mod ventilators;
