//! What the end-to-end tests share: a client, waiting for conditions, and what to show when one fails.
