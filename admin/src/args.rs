//! The flags of every process that has endpoints.

use std::net::SocketAddr;

use clap::Args;

use crate::Address;

/// Where a process serves its endpoints; none by default.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminArgs {
    /// Serve /metrics, /healthz and /readyz here, for example 0.0.0.0:27780 or `unix:/path`.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<Address>,
    /// Serve what is not for everybody here, /debug/state among it; an address of this machine's loopback.
    #[arg(long, value_name = "ADDRESS")]
    pub loopback: Option<SocketAddr>,
}
