//! Carries out what the machines ask of their links.

use harmony_protocol::LinkOutput;
use harmony_protocol::ids::LinkId;

use crate::{Endpoint, EndpointError, Transport};

impl Transport {
    /// Carries out one output of a machine. A dial whose endpoint cannot be read is given back with the reason: the
    /// machine is to hear that the link is closed.
    pub fn perform(&self, output: LinkOutput) -> Result<(), (LinkId, EndpointError)> {
        match output {
            LinkOutput::Dial { link, endpoint } => {
                let endpoint: Endpoint = endpoint.parse().map_err(|error| (link, error))?;
                self.dial(link, endpoint);
            }
            LinkOutput::Send { link, frames } => self.send(link, frames),
            LinkOutput::Close { link } => self.close(link),
        }
        Ok(())
    }
}
