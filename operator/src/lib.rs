//! The operator: reconciles `HarmonyBatch` resources and is the ventilator of each.

mod leader;
pub mod reconcile;
