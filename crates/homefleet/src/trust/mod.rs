//! `homefleet trust …`: decisions about certificates.

use clap::Subcommand;

use crate::cli::Global;
use crate::failure::Failure;

mod explain;
mod server;

/// What `homefleet trust` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Walk a certificate through the decision of USP Figure MTP.1 and say where it ends
    #[command(
        after_help = "Exit code 0 when the session would be established, 4 when it would be refused.

Examples:
  homefleet trust explain --chain agent.pem --anchors ca.pem --accepted
  homefleet trust explain --chain server.pem --anchors ca.pem --host acs.example.com
  homefleet trust explain --chain server.pem --anchors ca.pem --host 192.0.2.1 \\
      --endpoint-id proto::controller --at 2027-01-01T00:00:00Z
  homefleet trust explain --chain agent.pem --anchors ca.pem --accepted --crl ca.crl
  homefleet trust explain --chain agent.pem --anchors ca.pem --accepted --fetch --revocation chain \\
      --unknown refuse"
    )]
    Explain(explain::Explain),
    /// Have the server read its certificate files again; sessions stay open
    Reload,
    /// Show the server's certificate, whom it trusts, and the peers it refused
    Status,
}

impl Trust {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Explain(command) => command.run(global),
            Self::Reload => server::reload(global),
            Self::Status => server::status(global),
        }
    }
}
