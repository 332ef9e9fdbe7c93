//! The commented template of the configuration file.

use std::path::PathBuf;

/// What `homefleet-agent init` is told.
#[derive(Clone, Debug, Default)]
pub struct Init {
    /// Where the controller is.
    pub controller: Option<String>,
    /// The controller's Endpoint ID.
    pub controller_id: Option<String>,
    /// The agent's Endpoint ID.
    pub endpoint_id: Option<String>,
    /// PEM file of the trusted CAs.
    pub ca: Option<PathBuf>,
    /// PEM file of the certificates of Trusted Brokers.
    pub brokers: Option<PathBuf>,
    /// PEM file of the agent's certificate chain.
    pub certificate: Option<PathBuf>,
    /// PEM file of the agent's private key.
    pub key: Option<PathBuf>,
    /// Where the agent's certificate comes from instead.
    pub enrol: Option<InitEnrol>,
    /// Data directory.
    pub data_dir: Option<PathBuf>,
    /// DTLS address.
    pub listen: Option<String>,
}

/// Where the agent's certificate comes from, as `homefleet-agent init` is told.
#[derive(Clone, Debug, Default)]
pub struct InitEnrol {
    /// The CA.
    pub url: String,
    /// What names the secret.
    pub reference: Option<String>,
    /// The file that holds the secret.
    pub secret_file: Option<PathBuf>,
    /// PEM file of the manufacturer's certificate chain.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// `ca` or `from-cmp`.
    pub trust: Option<String>,
}

/// The template, with what is known written in and the rest commented out.
pub fn template(init: &Init) -> String {
    let mut out = String::new();
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let mut text = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    text(
        "# Configuration of homefleet-agent. Every key can also be set by an environment variable:",
    );
    text(
        "# HOMEFLEET_AGENT_ and the key in capitals, for example HOMEFLEET_AGENT_TRUST_CA for `ca` under [trust].",
    );
    text("version = 1\n");
    text(
        "# The agent's USP Endpoint ID; the certificate below must contain it (subjectAltName urn:bbf:usp:id:…).",
    );
    text("# Left out: os::OUI-serial, derived from this machine.");
    text(&line(
        "endpoint_id",
        init.endpoint_id.as_deref(),
        "os::0123AB-0000001",
    ));
    text("\n# Where the agent keeps its state (agent.db).");
    text(&line(
        "data_dir",
        path(&init.data_dir).as_deref(),
        "/var/lib/homefleet-agent",
    ));
    text(
        "\n# UDP address of CoAP over DTLS. Left out: none, when the controller below is reached another way.",
    );
    text(&line("listen", init.listen.as_deref(), "0.0.0.0:5684"));
    text("# The resource that takes USP Records: coaps://<this host>/usp.");
    text(&line("path", None, "usp"));
    text(
        "# host[:port] under which controllers reach this agent, when it is not the local address (behind a NAT).",
    );
    text(&line("advertise", None, "gateway.example.net:5684"));
    text("\n# Unencrypted CoAP, for closed networks and tests only: both keys are needed.");
    text("#allow_insecure = false");
    text("#plain_listen = \"0.0.0.0:5683\"");
    text(
        "# The interface on which who asks All CoAP Nodes learns of this agent; plain_listen is 0.0.0.0:5683 or [::]:5683 then.",
    );
    text("#discovery = \"br-lan\"");
    text(
        "\n# A change by a controller that cuts the very way it came by is undone when the controller is not heard again within",
    );
    text("# so many seconds; 0: it stays.");
    text("#rollback_after = 120");
    text("\n# Controllers may connect to this agent by WebSocket (wss://<this host>:8443/usp).");
    text("[websocket]");
    text(&line("listen", None, "0.0.0.0:8443"));
    text(&line("path", None, "/usp"));
    text("#encrypted = true");
    text(
        "\n# USP Services on this device: UNIX domain sockets at which the agent listens, and to which it connects.",
    );
    text("[uds]");
    text(&line("listen", None, "/run/homefleet/usp.sock"));
    text(&line("connect", None, "/run/usp/controller.sock"));
    text(
        "\n# The controller that manages this device from the first start on; it can add others. How it is reached:",
    );
    text("#   coaps://host:5684/usp            CoAP over DTLS");
    text("#   wss://host:443/usp               WebSocket over TLS");
    text(
        "#   stomps://broker:61614/queue/usp  STOMP over TLS: the destination at which the controller listens",
    );
    text(
        "#   mqtts://broker:8883/usp/c        MQTT over TLS: the topic at which the controller listens",
    );
    text("#   uds:/run/usp/controller.sock     a UNIX domain socket on this device");
    text("# With allow_insecure also coap:// ws:// stomp:// mqtt://.");
    text("[controller]");
    text(&line(
        "url",
        init.controller.as_deref(),
        "coaps://controller.example.net:5684/usp",
    ));
    text(&line(
        "endpoint_id",
        init.controller_id.as_deref(),
        "self::controller",
    ));
    text(
        "# At a broker: login (without: by the agent's certificate), and where the agent listens (without: made of its Endpoint ID).",
    );
    text(&line("username", None, "agent-1"));
    text(&line("password", None, "secret"));
    text(&line("password_file", None, "broker.password"));
    text(&line("subscribe", None, "/queue/agent-1"));
    text(&line("virtual_host", None, "/"));
    text(&line("mqtt_version", None, "5.0"));
    text("\n# Who is trusted, and who this agent is (PEM files; relative to this file).");
    text("[trust]");
    text(&line("ca", path(&init.ca).as_deref(), "ca.pem"));
    text(
        "# The certificates of STOMP and MQTT brokers that vouch for what they hand on (R-SEC.4a).",
    );
    text(&line(
        "brokers",
        path(&init.brokers).as_deref(),
        "broker.pem",
    ));
    text(&line(
        "certificate",
        path(&init.certificate).as_deref(),
        "agent.pem",
    ));
    text(&line("key", path(&init.key).as_deref(), "agent.key"));
    text(
        "# Are the dates of certificates checked? `kernel`: when the kernel says that its clock is synchronised;",
    );
    text("# `accurate`: always; `unknown`: never (R-MTP.2, R-MTP.3).");
    text(&line("time", None, "kernel"));
    text(
        "# With `kernel`: seconds after the start in which no controller is contacted unless the clock is synchronised (R-SEC.19).",
    );
    text("#wait_for_time = 60");
    text(
        "# Is it looked at whether a controller's certificate was revoked? `off`; `leaf`: its own; `chain`: those of its CAs too.",
    );
    text(
        "# Lists come from the files below; what is missing is fetched from where the certificate says, by OCSP or CRL.",
    );
    text(&line("revocation", None, "leaf"));
    text("# What follows when that cannot be found out: `allow` or `refuse`.");
    text(&line("revocation_unknown", None, "allow"));
    text("#crls = [\"ca.crl\"]");
    text(
        "# Are controllers let in whose certificate no CA of ours vouches for (trust on first use)? They get the role",
    );
    text(
        "# \"Untrusted\", which permits nothing until somebody gives them another, and their certificate is remembered.",
    );
    text("#first_use = false");
    text(
        "# Seconds without a message after which the session of such a controller ends; 0: never.",
    );
    text("#first_use_timer = 60");
    text(
        "\n# Instead of certificate and key above: the agent makes its key and asks this CA for the certificate, by CMP (RFC 9483), before it",
    );
    text("# connects first, and again in time before it expires.");
    text("[enrol]");
    let enrol = init.enrol.clone().unwrap_or_default();
    let url = Some(enrol.url.as_str()).filter(|url| !url.is_empty());
    text("# coaps://, https://, or coap:// and http://: CMP protects its messages itself.");
    text(&line("url", url, "coaps://ca.example.net"));
    text("# The CA or certificate profile by its label, if it has one; and the profile by name.");
    text(&line("label", None, "devices"));
    text(&line("profile", None, "usp-agent"));
    text(
        "# What the first request is protected with: a secret, in a file of mode 0600 that may go once the agent is enrolled,",
    );
    text(&line(
        "reference",
        enrol.reference.as_deref(),
        "device-0001",
    ));
    text(&line(
        "secret_file",
        path(&enrol.secret_file).as_deref(),
        "enrol.secret",
    ));
    text("# or a certificate of the manufacturer's with its key.");
    text(&line(
        "certificate",
        path(&enrol.certificate).as_deref(),
        "manufacturer.pem",
    ));
    text(&line(
        "key",
        path(&enrol.key).as_deref(),
        "manufacturer.key",
    ));
    text(
        "# The CAs that may answer, besides those of trust.ca and those that came with the certificate.",
    );
    text(&line("ca", None, "enrol-ca.pem"));
    text(
        "# Is a coaps or https server believed by its certificate (`ca`), or CMP's own protection until a CA was received (`from-cmp`)?",
    );
    text(&line("trust", enrol.trust.as_deref(), "ca"));
    text("# `p256`, `p384` or `rsa`.");
    text(&line("key_type", None, "p256"));
    text("# Renewed after so many percent of the lifetime.");
    text("#renew_after = 66");
    text(
        "# Seconds after its end in which a certificate may still be used to ask for the next one, if the CA allows it.",
    );
    text("#grace = 2592000");
    text("# Is the CA asked which CA certificates there are now?");
    text("#update_cas = true");
    text("# Is heard what the CA announces, where it is reached over coaps or coap?");
    text("#observe = true");
    text(
        "# Seconds until it is tried again when the CA refuses or is away; they double up to an hour.",
    );
    text("#retry = 15");
    text(
        "\n# What receivers of UDP-notif are told; controllers see and change it as Device.X_HOMEFLEET_Telemetry.",
    );
    text("[telemetry]");
    text("# Message Publisher ID of this agent.");
    text("#publisher_id = 1");
    text("# A JSON file that says the same by the YANG names of ietf-udp-notif-transport.");
    text("#yang = \"\"");
    text("# [[telemetry.receiver]]");
    text("# name = \"collector\"");
    text("# address = \"collector.example.net\"");
    text("# port = 4739");
    text("# [[telemetry.subscription]]");
    text("# name = \"interfaces\"");
    text("# receiver = \"collector\"");
    text("# paths = [\"Device.IP.Interface.*.Stats.\"]");
    text("# period = 10.0");
    text(
        "\n# How an ACS reaches the device, also through a home's gateway (TR-111). An ACS sees and changes it as ManagementServer.STUN….",
    );
    text("[stun]");
    text("# Address on which UDP Connection Requests are listened for; off unless set.");
    text("#listen = \"0.0.0.0:7547\"");
    text(
        "# Before an ACS says otherwise: is STUN used, and which server? Empty is the ACS's host.",
    );
    text("#enable = false");
    text("#server = \"\"");
    text("#port = 3478");
    text("# What the device proves to the STUN server who it is with; the file has the password.");
    text("#username = \"\"");
    text("#password_file = \"\"");
    text("# Seconds between the requests that keep the gateway's binding alive: least and most.");
    text("#minimum = 30");
    text("#maximum = 300");
    text("\n# The ACS of a device that speaks TR-069, beside or instead of a controller.");
    text("[cwmp]");
    text("# Left out: on when there is a url, or a dhcp.");
    text("#enable = true");
    text(&line("url", None, "https://acs.example.net:7547/"));
    text(&line("username", None, "0123AB-0000001"));
    text(&line("password", None, "secret"));
    text(&line("password_file", None, "acs.password"));
    text(
        "# The data model towards the ACS: `Device` (TR-181) or `InternetGatewayDevice` (TR-098).",
    );
    text(&line("root", None, "Device"));
    text("# Seconds between periodic informs; 0: none.");
    text("#periodic = 86400");
    text(
        "# Where calls of the ACS are taken, and the host[:port] it is told when that is not the local address.",
    );
    text(&line("connection_request", None, "0.0.0.0:7547"));
    text(&line(
        "connection_request_host",
        None,
        "gateway.example.net:7547",
    ));
    text(
        "# What the DHCP client's hook wrote about the ACS: option43=, option125= in hexadecimal.",
    );
    text(&line("dhcp", None, "/run/homefleet/acs"));
    text(
        "# The program that installs what was downloaded, given type, file and target name; left out: it is kept in the data directory.",
    );
    text(&line("install", None, "/usr/sbin/install-file"));
    text("# The file that an upload of the log sends.");
    text(&line("log_file", None, "/var/log/messages"));
    text("\n# What controllers may do to the device itself.");
    text(
        "# Who is behind which gateway, as DHCP option 125 tells it (TR-111 Part 1). `homefleet-agent dhcp-config` makes the",
    );
    text("# configuration of dnsmasq, kea, udhcpc or dhclient that goes with it.");
    text("[association]");
    text(
        "# This machine is a gateway: it lists the devices behind it. The LAN interfaces on which it listens to DHCP; left out:",
    );
    text("# only the DHCP server tells of leases, by `homefleet-agent dhcp-event`.");
    text("#gateway = true");
    text("#lan = [\"br-lan\"]");
    text(
        "# Every so many seconds it looks whether they are still there (0: never); so many are listed.",
    );
    text("#probe_interval = 30");
    text("#max_devices = 256");
    text(
        "# This machine is a device: it tells which gateway it is behind. The interface whose address does not come by DHCP: the",
    );
    text(
        "# gateway is asked there, every so many seconds; left out: the DHCP client tells, by `homefleet-agent dhcp-event`.",
    );
    text("#device = true");
    text(&line("inform", None, "eth0"));
    text("#inform_interval = 3600");
    text(
        "# Where `homefleet-agent dhcp-event` reaches the agent; left out: dhcp.sock in the data directory.",
    );
    text(&line("socket", None, "/run/homefleet/dhcp.sock"));
    text("\n[device]");
    text("# Who this device is, where the machine does not say it right.");
    text(&line("oui", None, "0123AB"));
    text(&line("serial_number", None, "0000001"));
    text(&line("product_class", None, "Gateway"));
    text(
        "# Device.Reboot() and FactoryReset(): `system` restarts the machine, `agent` the agent alone, `nothing` nothing.",
    );
    text(&line("restart", None, "system"));
    text(
        "# May controllers set interfaces up and down, and change other settings of the running system?",
    );
    text("#allow_network_changes = false");
    text("\n# Bounds of everything that grows.");
    text("[limits]");
    text("#max_subscriptions = 100");
    text("#max_pending = 1000");
    text("#max_requests = 16");
    text("#max_record = 1048576");
    text("#max_unknown_controllers = 16");
    text("\n[log]");
    text("# A level, or a filter such as \"info,homefleet_agent=debug\".");
    text(&line("filter", None, "info"));
    text("#json = false");
    out
}

/// `key = "value"`, commented out with an example when there is no value.
fn line(key: &str, value: Option<&str>, example: &str) -> String {
    let (mark, text) = match value {
        Some(value) => ("", value),
        None => ("#", example),
    };
    format!("{mark}{key} = {}", quote(text))
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
