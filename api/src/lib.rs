//! HarmonyBatch: types, defaults and validation. What the YAML means.
