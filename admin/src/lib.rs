//! The HTTP endpoints of every process: `/metrics`, `/healthz`, `/readyz` and, on loopback, `/debug/state`.
