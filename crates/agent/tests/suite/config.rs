//! The configuration file: defaults, environment, and errors that say where and what.

use std::path::{Path, PathBuf};

use homefleet_agent::config::{
    Config, ConfigError, ControllerUrl, Init, KEYS, Restart, TimeSource, template,
};

const MINIMAL: &str = "version = 1\nendpoint_id = \"self::agent\"\n\
                       [trust]\nca = \"ca.pem\"\ncertificate = \"agent.pem\"\nkey = \"/k/agent.key\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/homefleet/agent.toml"), |_| None)
}

fn with(name: &'static str, value: &'static str) -> Result<Config, ConfigError> {
    let environment = move |asked: &str| (asked == name).then(|| value.to_owned());
    Config::parse(MINIMAL, Path::new("/etc/homefleet/agent.toml"), environment)
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.listen, "0.0.0.0:5684".parse().unwrap());
    assert_eq!(
        (
            config.path.as_str(),
            config.plain_listen,
            config.allow_insecure
        ),
        ("usp", None, false)
    );
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/homefleet-agent"));
    assert_eq!(config.trust.time, TimeSource::Kernel);
    assert_eq!(
        (config.device.restart, config.device.allow_network_changes),
        (Restart::System, false)
    );
    assert!(config.controller.is_none());
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse(MINIMAL).unwrap();
    let own = config.trust.own.unwrap();
    assert_eq!(
        config.trust.ca,
        Some(PathBuf::from("/etc/homefleet/ca.pem"))
    );
    assert_eq!(own.certificate, PathBuf::from("/etc/homefleet/agent.pem"));
    assert_eq!(own.key, PathBuf::from("/k/agent.key"));
}

#[test]
fn an_unknown_key_is_refused_with_line_and_column() {
    for (text, place) in [
        (format!("colour = 1\n{MINIMAL}"), "line 1, column 1"),
        (format!("{MINIMAL}colour = 1\n"), "line 7, column 1"),
        (format!("{MINIMAL}[colours]\nred = 1\n"), "line 7, column 2"),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains("colour"), "{error}");
        assert!(error.starts_with("/etc/homefleet/agent.toml: "), "{error}");
    }
}

#[test]
fn a_value_of_the_wrong_form_is_refused_at_its_place() {
    for (line, what) in [
        ("listen = \"here\"", "socket address"),
        ("allow_insecure = 1", "boolean"),
        ("[controller]\nurl = \"http://x\"", "line 8, column 7"),
        (
            "[controller]\nendpoint_id = \"nothing\"",
            "line 8, column 15",
        ),
    ] {
        let text = if line.starts_with('[') {
            format!("{MINIMAL}{line}\n")
        } else {
            format!("{line}\n{MINIMAL}")
        };
        let error = parse(&text).unwrap_err();
        assert!(matches!(error, ConfigError::Syntax { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_version_that_is_missing_or_unknown_is_refused() {
    let error = parse(&MINIMAL.replace("version = 1\n", "")).unwrap_err();
    assert!(
        matches!(&error, ConfigError::Missing { key: "version", .. }),
        "{error}"
    );
    let error = parse(&MINIMAL.replace("version = 1", "version = 2")).unwrap_err();
    assert!(
        matches!(&error, ConfigError::Invalid { key: "version", .. }),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_named_with_its_variable() {
    let error = parse("version = 1\nendpoint_id = \"self::a\"\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`trust.ca` is not set: write it in the file, or set HOMEFLEET_AGENT_TRUST_CA"
    );
    let error = parse(&format!("{MINIMAL}[controller]\nurl = \"coaps://c/usp\"\n")).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Missing {
                key: "controller.endpoint_id",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_is_not_encrypted_needs_allow_insecure() {
    let plain = "[controller]\nurl = \"coap://c/usp\"\nendpoint_id = \"self::c\"\n";
    let error = parse(&format!("{MINIMAL}{plain}")).unwrap_err();
    assert!(
        matches!(
            &error,
            ConfigError::Invalid {
                key: "controller.url",
                ..
            }
        ),
        "{error}"
    );
    assert!(parse(&format!("allow_insecure = true\n{MINIMAL}{plain}")).is_ok());
    let error = parse(&format!("plain_listen = \"127.0.0.1:5683\"\n{MINIMAL}")).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Invalid {
                key: "plain_listen",
                ..
            }
        ),
        "{error}"
    );
    let open = |listen: &str| {
        let open = format!("allow_insecure = true\n{listen}discovery = \"br-lan\"\n{MINIMAL}");
        parse(&open)
    };
    for listen in ["", "plain_listen = \"192.0.2.1:5683\"\n"] {
        let error = open(listen).unwrap_err();
        assert!(
            matches!(
                error,
                ConfigError::Invalid {
                    key: "discovery",
                    ..
                }
            ),
            "{error}"
        );
    }
    let config = open("plain_listen = \"[::]:5683\"\n").unwrap();
    assert_eq!(config.discovery.as_deref(), Some("br-lan"));
    let lists = format!("{MINIMAL}crls = [\"ca.crl\"]\n");
    let error = parse(&lists).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Invalid {
                key: "trust.crls",
                ..
            }
        ),
        "{error}"
    );
    let config = parse(&format!("{lists}revocation = \"leaf\"\n")).unwrap();
    assert!(config.trust.crls[0].ends_with("ca.crl"));
    let query = "[controller]\nurl = \"coaps://c/usp?x=1\"\nendpoint_id = \"self::c\"\n";
    let error = parse(&format!("{MINIMAL}{query}")).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Invalid {
                key: "controller.url",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn every_key_has_an_environment_variable_that_wins() {
    let example = |name: &str| match name {
        "version" => "1",
        "endpoint_id" | "controller.endpoint_id" => "self::other",
        "listen" | "websocket.listen" => "127.0.0.1:7000",
        "plain_listen" => "0.0.0.0:7000",
        "controller.mqtt_version" => "3.1.1",
        "allow_insecure"
        | "trust.first_use"
        | "device.allow_network_changes"
        | "association.gateway"
        | "association.device"
        | "log.json"
        | "websocket.encrypted" => "true",
        "controller.url" => "coaps://other:1/usp",
        "trust.time" => "unknown",
        "trust.revocation" => "chain",
        "trust.revocation_unknown" => "refuse",
        "device.restart" => "agent",
        "device.oui" => "0123AB",
        "association.probe_interval"
        | "association.max_devices"
        | "association.inform_interval" => "7",
        "telemetry.publisher_id" => "7",
        "telemetry.yang" => "",
        "cwmp.enable" => "true",
        "cwmp.url" => "http://acs/",
        "cwmp.root" => "InternetGatewayDevice",
        "cwmp.periodic" => "7",
        "cwmp.connection_request" | "stun.listen" => "127.0.0.1:7547",
        "stun.enable" => "true",
        "stun.port" | "stun.minimum" | "stun.maximum" => "7",
        "stun.password_file" => "",
        "trust.wait_for_time" | "trust.first_use_timer" | "rollback_after" => "7",
        "enrol.url" => "https://ca",
        "enrol.trust" => "from-cmp",
        "enrol.key_type" => "p384",
        "enrol.renew_after" => "70",
        "enrol.grace" | "enrol.retry" => "7",
        "enrol.update_cas" | "enrol.observe" => "false",
        name if name.starts_with("limits.") => "7",
        _ => "text",
    };
    // With a secret to enrol with there is no other certificate.
    let excluded = [
        "trust.certificate",
        "trust.key",
        "enrol.certificate",
        "enrol.key",
    ];
    let keys = || KEYS.iter().filter(|key| !excluded.contains(&key.name));
    for key in keys() {
        let variable = key.variable();
        let all = |asked: &str| {
            keys()
                .find(|key| key.variable() == asked)
                .map(|key| example(key.name).to_owned())
        };
        let config = Config::parse("", Path::new("a.toml"), all).unwrap();
        assert_eq!(config.limits.max_pending, 7);
        let bad = |asked: &str| {
            if asked == variable {
                Some("\u{0}bad value".into())
            } else {
                all(asked)
            }
        };
        let free = [
            "data_dir",
            "discovery",
            "path",
            "advertise",
            "websocket.path",
            "uds.listen",
            "uds.connect",
            "controller.username",
            "controller.password",
            "controller.password_file",
            "controller.virtual_host",
            "controller.subscribe",
            "trust.ca",
            "trust.brokers",
            "trust.crls",
            "cwmp.username",
            "cwmp.password",
            "cwmp.password_file",
            "cwmp.connection_request_host",
            "cwmp.dhcp",
            "cwmp.install",
            "cwmp.log_file",
            "stun.server",
            "stun.username",
            "enrol.label",
            "enrol.profile",
            "enrol.reference",
            "enrol.secret_file",
            "enrol.ca",
            "association.socket",
            "device.serial_number",
            "device.product_class",
            "log.filter",
        ];
        let result = Config::parse("", Path::new("a.toml"), bad);
        assert_eq!(result.is_ok(), free.contains(&key.name), "{}", key.name);
    }
    assert_eq!(
        with("HOMEFLEET_AGENT_PATH", "/other/").unwrap().path,
        "other"
    );
    let error = with("HOMEFLEET_AGENT_LISTEN", "nowhere").unwrap_err();
    assert!(
        error.to_string().contains("HOMEFLEET_AGENT_LISTEN"),
        "{error}"
    );
}

#[test]
fn the_template_names_every_key_and_reads_back() {
    let text = template(&Init {
        controller: Some("coaps://controller.example.net/usp".into()),
        controller_id: Some("self::controller".into()),
        endpoint_id: Some("self::a\\\"gent".into()),
        ca: Some("/c/ca \"x\".pem".into()),
        certificate: Some("agent.pem".into()),
        key: Some("agent.key".into()),
        ..Init::default()
    });
    for key in KEYS {
        let last = key.name.rsplit('.').next().unwrap();
        assert!(
            text.lines().any(|line| line
                .trim_start_matches('#')
                .starts_with(&format!("{last} ="))),
            "{last}"
        );
    }
    let text = text.replace("self::a\\\\\\\"gent", "self::agent");
    let config = parse(&text).unwrap();
    assert_eq!(config.trust.ca, Some(PathBuf::from("/c/ca \"x\".pem")));
    let ControllerUrl::Coap(uri) = config.controller.unwrap().url else {
        panic!()
    };
    assert_eq!(uri.port, 5684);
    // With every example uncommented it is still a configuration, but for the certificates that exclude a secret.
    let all: String = text
        .lines()
        .filter(|line| {
            let line = line.trim_start_matches('#');
            !line.starts_with("certificate = ") && !line.starts_with("key = ")
        })
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let error = parse(&all).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Invalid {
                key: "plain_listen",
                ..
            }
        ),
        "{error}"
    );
    assert!(parse(&all.replace("allow_insecure = false", "allow_insecure = true")).is_ok());
}

#[test]
fn association_needs_a_role_an_interface_that_there_can_be_and_an_identity() {
    let with = |more: &str| parse(&format!("{MINIMAL}{more}"));
    assert_eq!(with("").unwrap().association, None);
    let settings = with("[association]\ngateway = true\nlan = [\"br-lan\"]\n").unwrap();
    let settings = settings.association.unwrap();
    assert!(settings.gateway && !settings.device);
    assert_eq!(settings.probe_interval, std::time::Duration::from_secs(30));
    assert!(settings.socket.ends_with("dhcp.sock"));
    for (more, key) in [
        ("[association]\nlan = [\"br-lan\"]\n", "association.lan"),
        (
            "[association]\ngateway = true\ninform = \"eth0\"\n",
            "association.inform",
        ),
        (
            "[association]\ngateway = true\nlan = [\"a/b\"]\n",
            "association.lan",
        ),
        (
            "[association]\ndevice = true\ninform_interval = 0\n",
            "association.inform_interval",
        ),
        (
            "[device]\nserial_number = \"\"\n[association]\ndevice = true\n",
            "association",
        ),
    ] {
        let error = with(more).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Invalid { key: found, .. } if *found == key),
            "{more}: {error}"
        );
    }
    let long = format!("socket = \"/{}\"\n", "x".repeat(107));
    let error = with(&format!("[association]\ndevice = true\n{long}")).unwrap_err();
    assert!(error.to_string().contains("at most 107"), "{error}");
    let error = with("[device]\noui = \"0123ab\"\n").unwrap_err();
    assert!(error.to_string().contains("six upper-case"), "{error}");
}

#[test]
fn the_endpoint_id_is_made_of_what_the_device_says_of_itself() {
    let text = MINIMAL.replace("endpoint_id = \"self::agent\"\n", "");
    let device = "[device]\noui = \"0123AB\"\nserial_number = \"STB-1\"\n";
    let config = parse(&format!("{text}{device}")).unwrap();
    assert_eq!(config.endpoint_id.to_string(), "os::0123AB-STB-1");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nowhere/agent.toml")).unwrap_err();
    assert!(
        matches!(&error, ConfigError::Read { .. })
            && error.to_string().contains("/nowhere/agent.toml")
    );
}

#[test]
fn the_manual_lists_every_key() {
    let chapter = |name: &str| {
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/manual/");
        std::fs::read_to_string(format!("{manual}{name}")).unwrap()
    };
    let manual = chapter("agent.md") + &chapter("agent-tr069.md");
    for key in KEYS {
        assert!(
            manual.contains(&format!("| `{}` |", key.name)),
            "{} is not in the manual",
            key.name
        );
    }
}

#[test]
fn a_controller_is_named_by_one_url_whatever_the_mtp() {
    let with = |url: &str, more: &str| {
        parse(&format!(
            "{MINIMAL}{more}[controller]\nendpoint_id = \"self::c\"\nurl = \"{url}\"\n"
        ))
    };
    let config = with("wss://c.example/usp", "").unwrap();
    assert!(!config.coap, "no CoAP where nobody asked for it");
    assert!(matches!(
        config.controller.unwrap().url,
        ControllerUrl::WebSocket(_)
    ));
    assert!(with("coaps://c/usp", "").unwrap().coap);
    assert!(with("uds:/run/c.sock", "").is_ok());
    for url in ["ws://c/usp", "stomp://b/queue/c", "mqtt://b/usp/c"] {
        let error = with(url, "").unwrap_err().to_string();
        assert!(
            error.starts_with("`controller.url`") && error.contains("allow_insecure"),
            "{error}"
        );
    }
    for url in ["stomps://b/queue/c", "mqtts://b/usp/c"] {
        let error = with(url, "").unwrap_err().to_string();
        assert!(
            error.starts_with("`trust.brokers`") && error.contains("R-SEC.4a"),
            "{error}"
        );
        assert!(with(url, "brokers = \"broker.pem\"\n").is_ok());
    }
    let error = with("mqtts://b/usp/+", "brokers = \"broker.pem\"\n").unwrap_err();
    assert!(error.to_string().contains("wildcards"), "{error}");
    let error = with("http://c/", "").unwrap_err().to_string();
    assert!(
        error.contains("line 9") && error.contains("wss://"),
        "{error}"
    );
}

#[test]
fn a_password_of_the_configuration_is_shown_nowhere() {
    let config = parse(&format!(
        "{MINIMAL}brokers = \"b.pem\"\n[controller]\nendpoint_id = \"self::c\"\nurl = \"stomps://b/queue/c\"\n\
         username = \"agent\"\npassword = \"hush\"\n"
    ))
    .unwrap();
    let broker = &config.controller.as_ref().unwrap().broker;
    assert_eq!(broker.password.as_ref().unwrap().reveal(), "hush");
    assert!(!format!("{config:?}").contains("hush"));
    let alone =
        "[controller]\nendpoint_id = \"self::c\"\nurl = \"coaps://c/usp\"\npassword = \"hush\"\n";
    let error = parse(&format!("{MINIMAL}{alone}")).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Missing {
                key: "controller.username",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_listener_without_tls_needs_allow_insecure() {
    let plain = "[websocket]\nlisten = \"127.0.0.1:0\"\nencrypted = false\n";
    let error = parse(&format!("{MINIMAL}{plain}")).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Invalid {
                key: "websocket.encrypted",
                ..
            }
        ),
        "{error}"
    );
    let config = parse(&format!("allow_insecure = true\n{MINIMAL}{plain}")).unwrap();
    assert_eq!(config.websocket.unwrap().path, "/usp");
    let error = parse(&format!("{MINIMAL}[websocket]\npath = \"x\"\n")).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Missing {
                key: "websocket.listen",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_device_that_speaks_tr_069_alone_needs_no_certificates() {
    let cwmp = "[cwmp]\nurl = \"http://acs.example.net/\"\nusername = \"d\"\npassword = \"w\"\n";
    let head = "version = 1\nendpoint_id = \"self::agent\"\n";
    let config = parse(&format!("{head}{cwmp}")).unwrap();
    assert!(config.cwmp.enabled && !config.usp && !config.coap);
    assert_eq!((config.trust.ca, config.trust.own), (None, None));
    assert_eq!(config.cwmp.root, homefleet_agent::cwmp::Root::Device);
    // With a way for USP it needs them, as ever.
    let listens = "listen = \"127.0.0.1:5684\"\n";
    let error = parse(&format!("{head}{listens}{cwmp}")).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Missing {
                key: "trust.ca",
                ..
            }
        ),
        "{error}"
    );
    let nowhere = "[cwmp]\nurl = \"ftp://acs/\"\n";
    let error = parse(&format!("{head}{nowhere}")).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Invalid {
                key: "cwmp.url",
                ..
            }
        ),
        "{error}"
    );
    let nobody = "[cwmp]\nurl = \"http://acs/\"\npassword = \"w\"\n";
    let error = parse(&format!("{head}{nobody}")).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Missing {
                key: "cwmp.username",
                ..
            }
        ),
        "{error}"
    );
}
