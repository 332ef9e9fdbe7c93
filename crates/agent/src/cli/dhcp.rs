//! `homefleet-agent dhcp-event` and `dhcp-config`: between DHCP servers and clients and the agent.

use std::{
    env, fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use homefleet_tr111::identity::Identity;

use super::{CommandError, ConfigFile, say};
use crate::{
    association::{
        Event, Mac,
        event::EventError,
        inbox, own,
        snippet::{self, Program},
    },
    config::Config,
};

/// Where the agent listens when its data directory is the usual one.
const DEFAULT_SOCKET: &str = "/var/lib/homefleet-agent/dhcp.sock";

/// Arguments of `dhcp-event`.
#[derive(Debug, clap::Args)]
pub(super) struct EventArguments {
    /// The agent's socket: `association.socket`, else dhcp.sock in its data directory
    #[arg(long, env = "HOMEFLEET_AGENT_ASSOCIATION_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    #[command(subcommand)]
    source: Source,
}

/// Who tells, and what.
#[derive(Debug, Subcommand)]
enum Source {
    /// dnsmasq's script: add|old|del, hardware address, address; DNSMASQ_… in the environment
    Dnsmasq {
        /// What dnsmasq gave its script
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// kea's script: the hook point; LEASE4_… in the environment
    Kea {
        /// What kea gave its script
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// udhcpc's script: deconfig|bound|renew|…; interface, opt125 and lease in the environment
    Udhcpc {
        /// What udhcpc gave its script
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// dhclient's hook: reason, interface, new_homefleet_identity and new_dhcp_lease_time in the environment
    Dhclient,
    /// Gateway: a device got DHCPACK
    Leased {
        /// Its hardware address
        #[arg(long)]
        mac: Mac,
        /// Its IP address
        #[arg(long)]
        address: Ipv4Addr,
        #[command(flatten)]
        who: Who,
        /// Seconds that its lease lasts; left out: no end is known
        #[arg(long)]
        lease: Option<u64>,
    },
    /// Gateway: a lease was released or has expired
    Ended {
        /// The device's hardware address
        #[arg(long)]
        mac: Mac,
        /// The address it had
        #[arg(long)]
        address: Option<Ipv4Addr>,
    },
    /// Device: DHCPACK came, with what it says of the gateway
    Acknowledged {
        /// The interface it came in at
        #[arg(long)]
        interface: String,
        #[command(flatten)]
        who: Who,
        /// Seconds that the lease lasts; left out: no end is known
        #[arg(long)]
        lease: Option<u64>,
    },
    /// Device: the lease was released or has expired
    Lost {
        /// The interface that had it
        #[arg(long)]
        interface: String,
    },
}

/// An identity on the command line.
#[derive(Debug, clap::Args)]
struct Who {
    /// Six upper-case hexadecimal digits
    #[arg(long, default_value = "")]
    oui: String,
    /// Serial number
    #[arg(long, default_value = "")]
    serial_number: String,
    /// Product class
    #[arg(long, default_value = "")]
    product_class: String,
}

/// Arguments of `dhcp-config`.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArguments {
    /// Whose configuration
    program: Program,
    #[command(flatten)]
    file: ConfigFile,
    /// Write the files into this directory; left out: print them
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The program that the scripts call; left out: this one
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// `dhcp-event`.
pub(super) fn event(arguments: &EventArguments) -> Result<(), CommandError> {
    let wrong = |error: EventError| CommandError::Usage(error.to_string());
    let variable = |name: &str| env::var(name).ok();
    let event = match &arguments.source {
        Source::Dnsmasq { arguments } => Event::of_dnsmasq(arguments, variable).map_err(wrong)?,
        Source::Kea { arguments } => Event::of_kea(arguments, variable).map_err(wrong)?,
        Source::Udhcpc { arguments } => Event::of_udhcpc(arguments, variable).map_err(wrong)?,
        Source::Dhclient => Event::of_dhclient(variable).map_err(wrong)?,
        Source::Leased {
            mac,
            address,
            who,
            lease,
        } => Some(Event::Leased {
            mac: *mac,
            address: *address,
            identity: who.identity()?,
            lease: *lease,
        }),
        Source::Ended { mac, address } => Some(Event::Ended {
            mac: *mac,
            address: *address,
        }),
        Source::Acknowledged {
            interface,
            who,
            lease,
        } => Some(Event::Acknowledged {
            interface: interface.clone(),
            oui: who.oui.clone(),
            serial_number: who.serial_number.clone(),
            product_class: who.product_class.clone(),
            lease: *lease,
        }),
        Source::Lost { interface } => Some(Event::Lost {
            interface: interface.clone(),
        }),
    };
    // Scripts are called for much else.
    let Some(event) = event else { return Ok(()) };
    let socket = &arguments.socket;
    inbox::tell(socket, &event)
        .map(|_| ())
        .map_err(|error| CommandError::Failed(format!("{}: {error}", socket.display())))
}

impl Who {
    /// Nothing said is no identity.
    fn identity(&self) -> Result<Option<Identity>, CommandError> {
        if [&self.oui, &self.serial_number, &self.product_class]
            .into_iter()
            .all(String::is_empty)
        {
            return Ok(None);
        }
        Identity::new(&self.oui, &self.serial_number, Some(&self.product_class))
            .map(Some)
            .map_err(|error| CommandError::Usage(error.to_string()))
    }
}

/// `dhcp-config`.
pub(super) fn config(arguments: &ConfigArguments) -> Result<(), CommandError> {
    let config = Config::load(&arguments.file.config)?;
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(error.to_string());
    let identity = own(&config.identity).map_err(|error| {
        CommandError::Usage(format!(
            "what this machine says of itself cannot be told by DHCP ({error}): set oui, serial_number and product_class under [device]"
        ))
    })?;
    let socket = match &config.association {
        Some(settings) => settings.socket.clone(),
        None => config.data_dir.join("dhcp.sock"),
    };
    let agent = match &arguments.agent {
        Some(agent) => agent.clone(),
        None => env::current_exe().map_err(|error| failed(&error))?,
    };
    let directory = match &arguments.directory {
        Some(directory) => std::path::absolute(directory).map_err(|error| failed(&error))?,
        None => PathBuf::from("/usr/lib/homefleet"),
    };
    let files = snippet::files(arguments.program, &identity, &agent, &socket, &directory);
    for file in files {
        if arguments.directory.is_none() {
            say(&format!("--- {}\n{}", file.name, file.content))?;
            continue;
        }
        let path = directory.join(file.name);
        write(&path, &file).map_err(|error| {
            CommandError::Failed(format!("cannot write {}: {error}", path.display()))
        })?;
        say(&format!("wrote {}", path.display()))?;
    }
    Ok(())
}

fn write(path: &Path, file: &snippet::File) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, &file.content)?;
    let mode = if file.executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
