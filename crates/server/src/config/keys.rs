//! Every key with its type and meaning: the environment variables, the template and the manual follow from it.
//!
//! `mqtt[].host` is the key `host` of each section `[[mqtt]]`; that of the first is the variable `HOMEFLEET_MQTT_0_HOST`.

use toml::Value;

/// Most sections of one name that variables can stand for.
const MAX_SECTIONS: usize = 16;

/// Type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A list of whole numbers; separated by commas in a variable.
    Integers,
    /// A list of texts; separated by commas in a variable.
    List,
    /// A text.
    Text,
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Path in the file, for example `http.listen`.
    pub path: &'static str,
    /// Type.
    pub kind: Kind,
    /// As it stands in the template.
    pub example: &'static str,
    /// Whether the template has it as a comment, because the example is the default or the key is optional.
    pub optional: bool,
    /// Meaning.
    pub meaning: &'static str,
}

impl Key {
    /// Name of the environment variable; of a list of sections, that of the first.
    pub fn variable(&self) -> String {
        variable(&self.at(0))
    }

    /// Every environment variable of the key, with the path in the file that each stands for.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let most = if self.path.contains("[]") {
            MAX_SECTIONS
        } else {
            1
        };
        (0..most).map(|place| (variable(&self.at(place)), self.at(place)))
    }

    fn at(&self, place: usize) -> String {
        self.path.replace("[]", &format!(".{place}"))
    }

    pub(super) fn value(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Boolean => match text {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                other => Err(format!("found `{other}`, expected true or false")),
            },
            Kind::Integer => text
                .parse()
                .map(Value::Integer)
                .map_err(|_| format!("found `{text}`, expected a whole number")),
            Kind::Integers => items(text)
                .map(|item| {
                    let number = item.parse().map(Value::Integer);
                    number.map_err(|_| format!("found `{item}`, expected whole numbers"))
                })
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Kind::List => Ok(Value::Array(
                items(text)
                    .map(|item| Value::String(item.to_owned()))
                    .collect(),
            )),
            Kind::Text => Ok(Value::String(text.to_owned())),
        }
    }
}

/// The items of a list in a variable.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let items = text.split(',').map(str::trim);
    items.filter(|item| !item.is_empty())
}

fn variable(path: &str) -> String {
    format!("HOMEFLEET_{}", path.replace('.', "_").to_uppercase())
}

/// Sets a key in a table, making its section when needed.
pub(super) fn insert(table: &mut toml::Table, path: &str, value: Value) -> Result<(), String> {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
            Ok(())
        }
        Some((section, rest)) => {
            if let Some((place, rest)) = rest.split_once('.')
                && let Ok(place) = place.parse::<usize>()
            {
                return insert_at(table, section, place, rest, value);
            }
            let entry = table
                .entry(section)
                .or_insert_with(|| Value::Table(toml::Table::new()));
            match entry.as_table_mut() {
                Some(section) => insert(section, rest, value),
                None => Err(format!("`{section}` in the file is not a section")),
            }
        }
    }
}

/// The same in one of several sections of a name; the next after the last is made.
fn insert_at(
    table: &mut toml::Table,
    section: &str,
    place: usize,
    path: &str,
    value: Value,
) -> Result<(), String> {
    let entry = table
        .entry(section)
        .or_insert_with(|| Value::Array(Vec::new()));
    let Some(sections) = entry.as_array_mut() else {
        return Err(format!("`{section}` in the file is not a list of sections"));
    };
    if sections.len() == place {
        sections.push(Value::Table(toml::Table::new()));
    }
    match sections.get_mut(place).and_then(Value::as_table_mut) {
        Some(section) => insert(section, path, value),
        None => Err(format!(
            "there is no [[{section}]] before it: they are counted from 0"
        )),
    }
}

pub(super) const fn key(
    path: &'static str,
    kind: Kind,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        path,
        kind,
        example,
        optional: true,
        meaning,
    }
}

pub(super) const fn needed(
    path: &'static str,
    kind: Kind,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        path,
        kind,
        example,
        optional: false,
        meaning,
    }
}

/// All keys in the order of the template.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(super::proxy_keys::PROXY_KEYS)
}

/// All keys but those of `[proxy]`.
const KEYS: &[Key] = &[
    needed(
        "version",
        Kind::Integer,
        "1",
        "Version of this file's format.",
    ),
    needed(
        "endpoint_id",
        Kind::Text,
        "\"fqdn::controller.example.net\"",
        "Own Endpoint ID as a USP Controller. The certificate's first subjectAltName must carry it\n(`urn:bbf:usp:id:…`, or a dNSName for `fqdn::`).",
    ),
    needed(
        "data_dir",
        Kind::Text,
        "\"/var/lib/homefleet\"",
        "Directory of the store (created when missing, readable by the server only).",
    ),
    key(
        "log.filter",
        Kind::Text,
        "\"info\"",
        "What is logged: error, warn, info, debug, trace, or per module: \"info,homefleet_net=debug\".",
    ),
    key(
        "log.json",
        Kind::Boolean,
        "false",
        "One JSON object per line.",
    ),
    key(
        "coap.listen",
        Kind::Text,
        "\"0.0.0.0:5684\"",
        "Where devices connect: CoAP in DTLS, UDP.",
    ),
    key(
        "coap.plain_listen",
        Kind::Text,
        "\"127.0.0.1:5683\"",
        "CoAP without security, for laboratories only: whoever sends there may claim to be any device\nthat never proved itself with a certificate. Off unless set.",
    ),
    key(
        "coap.path",
        Kind::Text,
        "\"usp\"",
        "Path of the USP resource: coaps://host:5684/usp",
    ),
    key(
        "coap.advertise",
        Kind::Text,
        "\"controller.example.net:5684\"",
        "What devices answer to (`reply-to`), when it is not the address this machine sends from.",
    ),
    key(
        "websocket.listen",
        Kind::Text,
        "\"0.0.0.0:5443\"",
        "Where devices connect over WebSocket: TLS with certificates on both sides, TCP. Off unless set.",
    ),
    key(
        "websocket.plain_listen",
        Kind::Text,
        "\"127.0.0.1:5080\"",
        "WebSocket without security, for laboratories only, as coap.plain_listen. Off unless set.",
    ),
    key(
        "websocket.proxy_listen",
        Kind::Text,
        "\"127.0.0.1:5081\"",
        "Where proxies in front connect that end the devices' TLS and hand their certificates on in Client-Cert and\nClient-Cert-Chain (RFC 9440). Off unless set.",
    ),
    key(
        "websocket.proxies",
        Kind::List,
        "[\"127.0.0.1\"]",
        "Addresses of these proxies: nobody else is let in there. Whoever can send from them can be any device.",
    ),
    key(
        "websocket.path",
        Kind::Text,
        "\"usp\"",
        "Path of the USP resource: wss://host:5443/usp",
    ),
    key(
        "websocket.advertise",
        Kind::Text,
        "\"controller.example.net:443\"",
        "Where devices are to connect, shown to operators, when it is not websocket.listen.",
    ),
    key(
        "websocket.keep_alive",
        Kind::Integer,
        "60",
        "Seconds between two Pings on a silent session; 0 = none.",
    ),
    needed(
        "websocket.agent[].endpoint_id",
        Kind::Text,
        "\"os::00D09E-1\"",
        "One section for each agent that listens, to which the server connects: its Endpoint ID, which its certificate\nmust carry.",
    ),
    needed(
        "websocket.agent[].url",
        Kind::Text,
        "\"wss://192.0.2.7:5443/usp\"",
        "Where it listens.",
    ),
    key(
        "uds.listen",
        Kind::Text,
        "\"/run/homefleet/usp.sock\"",
        "Socket file where agents on this machine connect, without certificates: for our own user, root, and uds.allow_uids.\nOff unless set.",
    ),
    key(
        "uds.allow_uids",
        Kind::Integers,
        "[]",
        "User IDs of agents on this machine that do not run as our own user. Whoever is let in may be any device that was\nnever seen with a certificate.",
    ),
    needed(
        "stomp[].name",
        Kind::Text,
        "\"main\"",
        "One section for each STOMP broker that devices are at: its name, as it is shown. Letters, digits, - _ and .",
    ),
    needed(
        "stomp[].host",
        Kind::Text,
        "\"broker.example.net\"",
        "Host name or address of the broker.",
    ),
    key(
        "stomp[].port",
        Kind::Integer,
        "61614",
        "TCP port; 61613 without TLS.",
    ),
    key(
        "stomp[].tls",
        Kind::Boolean,
        "true",
        "TLS with certificates on both sides. The broker's certificate has to stand in tls.brokers.",
    ),
    key(
        "stomp[].virtual_host",
        Kind::Text,
        "\"/\"",
        "Virtual host at the broker, when it is not the default one.",
    ),
    key(
        "stomp[].login",
        Kind::Text,
        "\"homefleet\"",
        "User name at the broker; without it the certificate says who we are.",
    ),
    key(
        "stomp[].password_file",
        Kind::Text,
        "\"/etc/homefleet/stomp-password\"",
        "File with the password; the end of its line does not count.",
    ),
    key(
        "stomp[].destination",
        Kind::Text,
        "\"/queue/usp.controller\"",
        "Where devices reach us; without it the broker tells (`subscribe-dest`).",
    ),
    key(
        "stomp[].senders",
        Kind::Text,
        "\"/topic/usp.controller.{endpoint-id}\"",
        "Where each device sends what is for us, with {endpoint-id} for its Endpoint ID: it is told to answer there, and believed\nover its own only. For brokers that let each device send to its own only, see docs/manual/brokers.md.",
    ),
    key(
        "stomp[].heart_beat",
        Kind::Integer,
        "30",
        "Seconds between heart-beats, both ways; 0 = none.",
    ),
    needed(
        "mqtt[].name",
        Kind::Text,
        "\"main\"",
        "One section for each MQTT broker that devices are at: its name, as it is shown. Letters, digits, - _ and .",
    ),
    needed(
        "mqtt[].host",
        Kind::Text,
        "\"broker.example.net\"",
        "Host name or address of the broker.",
    ),
    key(
        "mqtt[].port",
        Kind::Integer,
        "8883",
        "TCP port; 1883 without TLS.",
    ),
    key(
        "mqtt[].tls",
        Kind::Boolean,
        "true",
        "TLS with certificates on both sides. The broker's certificate has to stand in tls.brokers.",
    ),
    key(
        "mqtt[].version",
        Kind::Text,
        "\"5.0\"",
        "Version of MQTT: \"5.0\" or \"3.1.1\".",
    ),
    key(
        "mqtt[].client_id",
        Kind::Text,
        "\"homefleet\"",
        "Client identifier, when it is not the Endpoint ID.",
    ),
    key(
        "mqtt[].username",
        Kind::Text,
        "\"homefleet\"",
        "User name at the broker; without it the certificate says who we are.",
    ),
    key(
        "mqtt[].password_file",
        Kind::Text,
        "\"/etc/homefleet/mqtt-password\"",
        "File with the password; the end of its line does not count.",
    ),
    key(
        "mqtt[].topic",
        Kind::Text,
        "\"usp/controller\"",
        "Topic where devices reach us; without it the broker tells (`subscribe-topic`, Response Information).",
    ),
    key(
        "mqtt[].senders",
        Kind::Text,
        "\"usp/from/{endpoint-id}\"",
        "Where each device publishes what is for us, with {endpoint-id} for its Endpoint ID: it is told to answer there, and believed\nover its own only. For brokers that let each device publish to its own only, see docs/manual/brokers.md.",
    ),
    key(
        "mqtt[].qos",
        Kind::Integer,
        "1",
        "Quality of Service of what is sent and subscribed to.",
    ),
    key(
        "mqtt[].keep_alive",
        Kind::Integer,
        "60",
        "Seconds after which a silent connection is checked; 0 = never.",
    ),
    key(
        "mqtt[].session_expiry",
        Kind::Integer,
        "3600",
        "Seconds for which the broker keeps what is for us while we are away; 0 = not at all.",
    ),
    needed(
        "tls.certificate",
        Kind::Text,
        "\"/etc/homefleet/server.pem\"",
        "Own certificate and its intermediates, leaf first, PEM.",
    ),
    needed(
        "tls.key",
        Kind::Text,
        "\"/etc/homefleet/server-key.pem\"",
        "Its private key, PEM (PKCS#8).",
    ),
    needed(
        "tls.anchors",
        Kind::Text,
        "\"/etc/homefleet/device-ca.pem\"",
        "CAs that devices' certificates must lead to, PEM.",
    ),
    key(
        "tls.brokers",
        Kind::Text,
        "\"/etc/homefleet/brokers.pem\"",
        "Certificates of Trusted Brokers, PEM, each the broker's own and not its CA's. Whoever a Trusted Broker lets send is\ntaken for who it says it is: the broker must let each device send in its own name only.",
    ),
    key(
        "tls.allow_untrusted_brokers",
        Kind::Boolean,
        "false",
        "Take Records from brokers over TLS that are not Trusted Brokers, for closed networks only: whoever may send at the\nbroker may claim to be any device that nobody stood for yet.",
    ),
    key(
        "tls.watch",
        Kind::Integer,
        "10",
        "Seconds between two looks whether these files changed: a renewed certificate is taken over without\na restart. 0 = only on SIGHUP and on request.",
    ),
    key(
        "tls.revocation.check",
        Kind::Text,
        "\"off\"",
        "Whether a device's certificate was revoked by its CA: \"off\" does not ask, \"leaf\" asks about the device's own\ncertificate, \"chain\" about those of the CAs between it and the trusted one too.",
    ),
    key(
        "tls.revocation.unknown",
        Kind::Text,
        "\"allow\"",
        "When it cannot be found out: \"allow\" lets the device connect, \"refuse\" does not.",
    ),
    key(
        "tls.revocation.crls",
        Kind::List,
        "[]",
        "Files with revocation lists, PEM or DER. A list is signed by a CA of tls.anchors, or by one whose certificate\nstands beside it in the same PEM file.",
    ),
    key(
        "tls.revocation.fetch",
        Kind::Boolean,
        "true",
        "Fetch lists (CRL) and answers (OCSP) over http from the addresses that certificates name; only from certificates\nwhose path to a trusted CA is valid. The device is held meanwhile.",
    ),
    key(
        "tls.revocation.refresh",
        Kind::Integer,
        "3600",
        "Seconds after which what is in use is fetched again, so that a revocation becomes known.",
    ),
    key(
        "tls.revocation.timeout",
        Kind::Integer,
        "10",
        "Seconds one fetch may take.",
    ),
    key(
        "tls.revocation.retry",
        Kind::Integer,
        "60",
        "Seconds for which what could not be fetched is not tried again.",
    ),
    key(
        "tls.revocation.max_crl_size",
        Kind::Integer,
        "1048576",
        "Longest list, in bytes.",
    ),
    key(
        "tls.revocation.max_ocsp_size",
        Kind::Integer,
        "65536",
        "Longest OCSP answer, in bytes.",
    ),
    key(
        "http.listen",
        Kind::Text,
        "\"127.0.0.1:8080\"",
        "Where the REST API and the console listen. There is no TLS here yet: an address that is not\nloopback is refused unless a TLS proxy is in front.",
    ),
    key(
        "http.behind_tls_proxy",
        Kind::Boolean,
        "false",
        "There is a proxy in front that speaks TLS.",
    ),
    key(
        "http.public_metrics",
        Kind::Boolean,
        "false",
        "Serve /metrics without a token.",
    ),
    key(
        "http.body_limit",
        Kind::Integer,
        "1048576",
        "Largest body of a request, in bytes.",
    ),
    key(
        "device.reachable_for",
        Kind::Integer,
        "900",
        "Seconds after its last message for which a device is called reachable.",
    ),
    key(
        "device.max",
        Kind::Integer,
        "100000",
        "Most devices; further ones are refused and counted.",
    ),
    key(
        "device.pin_certificates",
        Kind::Boolean,
        "false",
        "Refuse a known device that presents another certificate, even one from a trusted CA.",
    ),
    key(
        "device.max_values",
        Kind::Integer,
        "100000",
        "Most values kept of a device; one longer than 1 KiB counts once more for each further KiB.",
    ),
    key(
        "device.max_value_length",
        Kind::Integer,
        "65536",
        "Longest value kept, in bytes.",
    ),
    key(
        "device.max_text_length",
        Kind::Integer,
        "256",
        "Longest manufacturer, serial number and the like kept, in bytes.",
    ),
    key(
        "device.max_seen",
        Kind::Integer,
        "8192",
        "Most notifications of a device remembered for a day, so that a retry is recognised.",
    ),
    key(
        "device.max_answers",
        Kind::Integer,
        "64",
        "Most answers on their way to a device; beyond it the device asks again.",
    ),
    key(
        "device.readings_per_hour",
        Kind::Integer,
        "12",
        "Most readings of a device in an hour that its boots and OnBoardRequests cause.",
    ),
    key(
        "task.expires_in",
        Kind::Integer,
        "86400",
        "Seconds until a task that asks for no lifetime is given up.",
    ),
    key(
        "task.answer_timeout",
        Kind::Integer,
        "60",
        "Seconds the answer of a device that took a request is awaited.",
    ),
    key(
        "task.retry_first",
        Kind::Integer,
        "5",
        "Seconds of the first pause after a failed attempt; pauses double.",
    ),
    key(
        "task.retry_max",
        Kind::Integer,
        "300",
        "Seconds of the longest pause.",
    ),
    key(
        "task.probe_after",
        Kind::Integer,
        "60",
        "Seconds of silence after which a device is probed before Add or Operate, which must not be repeated.",
    ),
    key(
        "task.per_device",
        Kind::Integer,
        "256",
        "Most open tasks per device.",
    ),
    key("task.total", Kind::Integer, "100000", "Most open tasks."),
    key(
        "task.keep_days",
        Kind::Integer,
        "30",
        "Days finished tasks are kept.",
    ),
    key(
        "subscribe.boot",
        Kind::Boolean,
        "true",
        "Be told when a device boots.",
    ),
    key(
        "subscribe.operation_complete",
        Kind::Boolean,
        "true",
        "Be told when an asynchronous command completes; without it such tasks end by expiring.",
    ),
    key(
        "subscribe.value_change",
        Kind::List,
        "[\"Device.DeviceInfo.SoftwareVersion\", \"Device.IP.Interface.*.Status\", \"Device.IP.Interface.*.IPv4Address.*.IPAddress\"]",
        "Paths whose changes of value every device is asked to tell.",
    ),
    key(
        "audit.keep_days",
        Kind::Integer,
        "365",
        "Days entries of the audit log are kept.",
    ),
    key(
        "acs.listen",
        Kind::Text,
        "\"0.0.0.0:7547\"",
        "Address where devices that speak TR-069 (CWMP) connect over HTTP. Off unless set.",
    ),
    key(
        "acs.tls_listen",
        Kind::Text,
        "\"0.0.0.0:7548\"",
        "Address where they connect over HTTPS, with the certificate of [tls]. A device that shows a certificate is known by it\n(its name: OUI-ProductClass-SerialNumber); any other logs in. Off unless set.",
    ),
    key(
        "acs.username",
        Kind::Text,
        "\"bootstrap\"",
        "Name with which devices log in (HTTP Digest, over HTTPS also Basic) until they have their own, and the file with the\npassword to it. Without them nobody has to.",
    ),
    key(
        "acs.password_file",
        Kind::Text,
        "\"acs-password\"",
        "See username.",
    ),
    key(
        "acs.device_logins",
        Kind::Boolean,
        "true",
        "Give each device a name and a password of its own, which it then has to log in with.",
    ),
    key(
        "acs.unknown",
        Kind::Text,
        "\"quarantine\"",
        "A device that is not known is managed at once (admit), registered and left alone until an operator admits it\n(quarantine), or refused (refuse).",
    ),
    key(
        "acs.call_networks",
        Kind::List,
        "[\"10.0.0.0/8\"]",
        "Networks that Connection Requests may go to, whatever address a device tells. Without any: only the address that the\ndevice's last session came from, and never loopback or link-local.",
    ),
    key(
        "acs.cookieless",
        Kind::Boolean,
        "false",
        "Take devices that keep no cookies: their messages belong to the session of their connection. Not with a proxy in front.",
    ),
    key(
        "acs.hold_requests",
        Kind::Boolean,
        "false",
        "Ask devices to hold their own requests until the server has no more (HoldRequests).",
    ),
    key(
        "acs.kicked_url",
        Kind::Text,
        "\"https://acs.example.com/welcome\"",
        "Where a browser is sent that comes by way of a device (Kicked). Nowhere unless set.",
    ),
    key(
        "acs.files",
        Kind::Text,
        "\"/var/lib/homefleet/files\"",
        "Directory with the files that Download() may name; what devices send by Upload() goes to `uploads` in it. Off unless set.",
    ),
    key(
        "acs.files_url",
        Kind::Text,
        "\"https://files.example.com:7548\"",
        "What the URLs of files begin with, as devices reach it. Without it: what the device called the server.",
    ),
    key(
        "acs.max_upload",
        Kind::Integer,
        "67108864",
        "Longest file that a device may send, in bytes.",
    ),
    key(
        "acs.discover",
        Kind::Integer,
        "0",
        "Objects of a device's data model that are listed and read in one session, when nothing else is to be done, until all are\nknown; 0 = only what is asked for.",
    ),
    key(
        "acs.sessions",
        Kind::Integer,
        "10000",
        "Most sessions at a time; beyond it devices are told to come again.",
    ),
    key(
        "acs.timeout",
        Kind::Integer,
        "30",
        "Seconds that a device may take for its next message, unless it asks for more.",
    ),
    key(
        "acs.inform_interval",
        Kind::Integer,
        "0",
        "Seconds between the sessions that a device is to open by itself, set when it is first managed; 0 = as it was made.",
    ),
    key(
        "stun.listen",
        Kind::Text,
        "\"192.0.2.1:3478\"",
        "Address of the STUN server for devices behind address translation, from which UDP Connection Requests leave (TR-111). Off unless set.",
    ),
    key(
        "stun.other",
        Kind::Text,
        "\"192.0.2.2:3479\"",
        "The server's other address and port, for clients that ask by CHANGE-REQUEST what kind of translation there is. It differs\nfrom listen in both, and both are to be named.",
    ),
    key(
        "stun.advertise",
        Kind::Text,
        "\"stun.example:3478\"",
        "Host, or host:port, that devices are told. Without it they use the host of their ACS URL and the port of listen.",
    ),
    key(
        "stun.provision",
        Kind::Boolean,
        "true",
        "Whether devices are set up for it: STUN enabled, a name and a password of their own, the periods below, active notification.",
    ),
    key(
        "stun.learn",
        Kind::Text,
        "\"both\"",
        "How it is learned where a device listens: by what it proves to the STUN server (stun), by what it tells the ACS (notification),\nor by both, of which the newest counts.",
    ),
    key(
        "stun.authenticate",
        Kind::Text,
        "\"changes\"",
        "Which Binding Requests must prove who sent them: those that say that a binding changed (changes), or every one that says where a\ndevice listens (listening).",
    ),
    key(
        "stun.minimum_period",
        Kind::Integer,
        "30",
        "Shortest period between the requests that keep a binding alive, in seconds. Devices find the longest that works between the two.",
    ),
    key(
        "stun.maximum_period",
        Kind::Integer,
        "300",
        "Longest, in seconds; -1 = none.",
    ),
    key(
        "stun.notification_limit",
        Kind::Integer,
        "60",
        "Shortest time between notifications of a device's changed address, in seconds.",
    ),
    key(
        "stun.copies",
        Kind::Integer,
        "3",
        "Identical copies of a UDP Connection Request, 1 to 16.",
    ),
    key(
        "stun.spacing",
        Kind::Integer,
        "100",
        "Milliseconds between them, 10 to 10000.",
    ),
    key(
        "stun.wait",
        Kind::Integer,
        "10",
        "Seconds that a device may take to come after them.",
    ),
    key(
        "stun.bindings",
        Kind::Integer,
        "1000000",
        "Most bindings that are held; beyond it devices are answered and not remembered.",
    ),
    key(
        "home.enabled",
        Kind::Boolean,
        "true",
        "Ask devices for the gateway they are behind, and check that against what the gateway says (TR-111).",
    ),
    key(
        "home.settle",
        Kind::Integer,
        "20",
        "Seconds that a gateway may take to list a device that just came, before what the device says is refuted.",
    ),
    key(
        "home.pause",
        Kind::Integer,
        "5",
        "Seconds between two readings of one gateway's table, at least.",
    ),
    key(
        "home.max_rows",
        Kind::Integer,
        "1024",
        "Most devices kept of a gateway's table.",
    ),
    key(
        "cmp.http_listen",
        Kind::Text,
        "\"0.0.0.0:8829\"",
        "Address where devices ask for certificates over HTTP (CMP protects its own messages), and where CRLs, CA certificates and\nOCSP answers are read. Off unless set.",
    ),
    key(
        "cmp.https_listen",
        Kind::Text,
        "\"0.0.0.0:8830\"",
        "The same over HTTPS, with this server's certificate. Off unless set.",
    ),
    key(
        "cmp.coap_listen",
        Kind::Text,
        "\"0.0.0.0:5683\"",
        "Address where devices ask for certificates over CoAP (RFC 9482), UDP; CRLs, CA certificates and OCSP there too. Off unless set.",
    ),
    key(
        "cmp.coaps_listen",
        Kind::Text,
        "\"0.0.0.0:5686\"",
        "The same over DTLS, with this server's certificate; devices need none. The default port of coaps is 5684, which USP uses.\nOff unless set.",
    ),
    key(
        "cmp.accept_octet_stream",
        Kind::Boolean,
        "false",
        "Take messages as application/octet-stream over CoAP, as clients from before RFC 9482 send them, and answer so.",
    ),
    key(
        "cmp.manufacturers",
        Kind::List,
        "[]",
        "PEM files with the CAs of manufacturers: devices with a certificate of theirs may ask for a first certificate of ours,\nwhere the profile allows it.",
    ),
    key(
        "cmp.registration_authorities",
        Kind::List,
        "[]",
        "PEM files with CAs of registration authorities (extended key usage id-kp-cmcRA) that are trusted besides those of our own CA.",
    ),
    key(
        "cmp.max_message",
        Kind::Integer,
        "65536",
        "Longest message, in bytes.",
    ),
    key(
        "cmp.at_once",
        Kind::Integer,
        "1024",
        "Messages worked on at a time; more are told to come again later.",
    ),
    key(
        "cmp.per_second",
        Kind::Integer,
        "50",
        "Messages of one source (an IPv4 address, an IPv6 /64) in a second, in the long run.",
    ),
    key(
        "cmp.burst",
        Kind::Integer,
        "200",
        "Messages of one source at once.",
    ),
    key(
        "cmp.observers",
        Kind::Integer,
        "65536",
        "Observers of announcements at a time; further ones are answered once. 0: nobody is kept.",
    ),
    key(
        "cmp.announced_again",
        Kind::Integer,
        "3600",
        "Seconds within which observers of announcements register again, each at a time of its own.",
    ),
    key(
        "cmp.announced_list",
        Kind::Integer,
        "16384",
        "The longest list of revoked certificates that is announced, in bytes. 0: none is.",
    ),
    key(
        "cmp.transactions",
        Kind::Integer,
        "65536",
        "Most open transactions.",
    ),
    key(
        "cmp.check_after",
        Kind::Integer,
        "30",
        "Seconds after which a device that waits for a decision shall ask again.",
    ),
    key(
        "cmp.poll_within",
        Kind::Integer,
        "86400",
        "Seconds that a device that waits may be silent until its request is dropped.",
    ),
    key(
        "cmp.confirm_within",
        Kind::Integer,
        "300",
        "Seconds within which a device has to confirm its certificate; one that it does not is revoked.",
    ),
    key(
        "cmp.weak_macs",
        Kind::Boolean,
        "false",
        "Accept MACs with SHA-1 and from 100 iterations on: the defaults of old clients.",
    ),
    key(
        "cmp.old_polling",
        Kind::Boolean,
        "false",
        "Answer a request that had to wait as clients older than RFC 9483 expect it: OpenSSL 3.0 to 3.3 among them.",
    ),
    key(
        "cmp.bare_keys",
        Kind::Boolean,
        "false",
        "Deliver keys that the CA made without the package of RFC 5958 around them: OpenSSL 3.5 reads no other.",
    ),
    key(
        "cmp.revoke_without_reason",
        Kind::Boolean,
        "false",
        "Take requests for revocation that say no reason, against RFC 9483.",
    ),
    key(
        "notif.listen",
        Kind::Text,
        "\"0.0.0.0:10514\"",
        "Where devices send telemetry: UDP-notif in DTLS with certificates on both sides, UDP. Off unless set.",
    ),
    key(
        "notif.plain_listen",
        Kind::Text,
        "\"127.0.0.1:10515\"",
        "UDP-notif without security: whoever can send there from the address of a [[notif.publisher]] is that device. Off unless set.",
    ),
    key(
        "notif.dtls",
        Kind::Text,
        "\"1.3\"",
        "DTLS version at least: \"1.3\", or \"1.2\" for both.",
    ),
    key(
        "notif.idle_timeout",
        Kind::Integer,
        "600",
        "Seconds of silence after which a DTLS session is closed.",
    ),
    key(
        "notif.profile",
        Kind::Text,
        "\"draft-26\"",
        "What messages of version 1 are taken for, since nothing in them says it: \"draft-07\" (-07, -08: no loss is claimed),\n\"draft-09\" (to -18), \"draft-19\" (to -25) or \"draft-26\". Older versions are told apart by themselves.",
    ),
    key(
        "notif.workers",
        Kind::Integer,
        "1",
        "Threads that receive, each with its own socket; one source stays on one of them.",
    ),
    key(
        "notif.receive_buffer",
        Kind::Integer,
        "33554432",
        "Receive buffer asked for, per socket, in bytes; what the kernel granted is shown.",
    ),
    key(
        "notif.gro",
        Kind::Boolean,
        "true",
        "The kernel may coalesce datagrams of one source: cheaper by far.",
    ),
    key(
        "notif.queue",
        Kind::Integer,
        "1024",
        "Batches of messages between receiving and what follows; beyond it messages are dropped and counted.",
    ),
    key(
        "notif.max_publishers",
        Kind::Integer,
        "65536",
        "Most publishers known at once; beyond it one that is silent is forgotten.",
    ),
    key(
        "notif.max_message",
        Kind::Integer,
        "1048576",
        "Longest message, in bytes, at least 98304.",
    ),
    key(
        "notif.reassembly_bytes",
        Kind::Integer,
        "67108864",
        "Most bytes held for messages of which segments are missing.",
    ),
    key(
        "notif.reassembly_timeout",
        Kind::Integer,
        "10",
        "Seconds from a message's first segment to its last, at most 20.",
    ),
    key(
        "notif.unknown",
        Kind::Text,
        "\"refuse\"",
        "Messages of publishers that are tied to no device of the registry: \"refuse\" drops and counts them, \"keep\" hands them to the\noutputs without a device.",
    ),
    key(
        "notif.series.enabled",
        Kind::Boolean,
        "true",
        "Keep the numbers in telemetry as time series, for the console and the REST API.",
    ),
    key(
        "notif.series.keep_days",
        Kind::Integer,
        "7",
        "Days that they are kept.",
    ),
    key(
        "notif.series.raw_hours",
        Kind::Integer,
        "24",
        "Hours for which every point is kept; behind that, least, mean and most of each five minutes.",
    ),
    key(
        "notif.series.per_device",
        Kind::Integer,
        "500",
        "Most series of a device; further numbers are not kept, and counted.",
    ),
    key(
        "notif.series.total",
        Kind::Integer,
        "20000000",
        "Most points of all devices, about 30 bytes each; beyond it the oldest go.",
    ),
    needed(
        "notif.output[].name",
        Kind::Text,
        "\"archive\"",
        "One section for each output of telemetry, several at once: its name, as it is shown. Letters, digits, - and _",
    ),
    needed(
        "notif.output[].kind",
        Kind::Text,
        "\"ndjson\"",
        "\"ndjson\" (files of JSON lines, zstd), \"parquet\" (files), \"kafka\", \"nats\" or \"webhook\" (POST of batches of JSON lines).",
    ),
    key(
        "notif.output[].queue",
        Kind::Integer,
        "10000",
        "Most messages that wait for it; beyond it they are dropped and counted.",
    ),
    key(
        "notif.output[].queue_bytes",
        Kind::Integer,
        "67108864",
        "Most bytes that wait for it.",
    ),
    key(
        "notif.output[].retry_max",
        Kind::Integer,
        "30",
        "Seconds of the longest pause after a failure; pauses double.",
    ),
    key(
        "notif.output[].directory",
        Kind::Text,
        "\"/var/lib/homefleet/telemetry\"",
        "Files: their directory, made when it is missing.",
    ),
    key(
        "notif.output[].max_size",
        Kind::Integer,
        "67108864",
        "Files: bytes at which one is ended and the next begins.",
    ),
    key(
        "notif.output[].max_age",
        Kind::Integer,
        "3600",
        "Files: seconds after which one is ended.",
    ),
    key(
        "notif.output[].keep_files",
        Kind::Integer,
        "100",
        "Files: how many are kept, the oldest go; 0 = all.",
    ),
    key(
        "notif.output[].servers",
        Kind::List,
        "[\"broker.example.net:9092\"]",
        "Kafka, NATS: where, as host:port.",
    ),
    key(
        "notif.output[].topic",
        Kind::Text,
        "\"telemetry\"",
        "Kafka: the topic. NATS: the subject, with {device} for the device.",
    ),
    key(
        "notif.output[].user",
        Kind::Text,
        "\"homefleet\"",
        "NATS: user name.",
    ),
    key(
        "notif.output[].password_file",
        Kind::Text,
        "\"/etc/homefleet/nats-password\"",
        "NATS: file with the password, its first line.",
    ),
    key(
        "notif.output[].token_file",
        Kind::Text,
        "\"/etc/homefleet/webhook-token\"",
        "NATS, webhook: file with a token, its first line.",
    ),
    key(
        "notif.output[].url",
        Kind::Text,
        "\"https://collector.example.net/telemetry\"",
        "Webhook: where batches are posted.",
    ),
    key(
        "notif.output[].ca",
        Kind::Text,
        "\"/etc/homefleet/outputs-ca.pem\"",
        "NATS, webhook: CAs that the server's certificate must lead to, PEM. NATS uses TLS when it is given; https needs it.",
    ),
    needed(
        "notif.publisher[].address",
        Kind::Text,
        "\"192.0.2.7\"",
        "One section for each publisher without a certificate: the address it sends from.",
    ),
    needed(
        "notif.publisher[].device",
        Kind::Text,
        "\"os::00D09E-1\"",
        "Endpoint ID of the device that it is.",
    ),
    key(
        "pki.enabled",
        Kind::Boolean,
        "false",
        "The server is a CA: it issues certificates to devices. `homefleet ca init` makes the CA first.",
    ),
    key(
        "pki.directory",
        Kind::Text,
        "\"/var/lib/homefleet/pki\"",
        "Directory of the CA's keys and certificates. Default: `pki` below data_dir.",
    ),
    key(
        "pki.passphrase_file",
        Kind::Text,
        "\"/etc/homefleet/ca-passphrase\"",
        "File with the passphrase of the CA's key files, its first line. Without it, HOMEFLEET_PKI_PASSPHRASE has the passphrase.",
    ),
    key(
        "pki.pin_file",
        Kind::Text,
        "\"/etc/homefleet/ca-pin\"",
        "File with the PIN of the PKCS#11 token, where the CA's key is in one. Without it, HOMEFLEET_PKI_PIN has the PIN.",
    ),
    key(
        "pki.crl_urls",
        Kind::List,
        "[\"http://ca.example.net/crl\"]",
        "Where the list of revoked certificates is, as certificates say.",
    ),
    key(
        "pki.ocsp_urls",
        Kind::List,
        "[\"http://ca.example.net/ocsp\"]",
        "Where the OCSP responder is, as certificates say.",
    ),
    key(
        "pki.ca_issuers_urls",
        Kind::List,
        "[\"http://ca.example.net/ca\"]",
        "Where the issuing CA's certificate is, as certificates say.",
    ),
    key(
        "pki.crl_lifetime",
        Kind::Integer,
        "604800",
        "Seconds for which a list of revoked certificates is good (7 days).",
    ),
    key(
        "pki.crl_refresh",
        Kind::Integer,
        "86400",
        "Seconds after which a list is made anew though nothing was revoked (1 day).",
    ),
    key(
        "pki.ocsp_lifetime",
        Kind::Integer,
        "3600",
        "Seconds for which an OCSP response is good.",
    ),
    key(
        "pki.max_secrets",
        Kind::Integer,
        "1000000",
        "Most enrolment secrets.",
    ),
    key(
        "pki.max_approvals",
        Kind::Integer,
        "10000",
        "Most requests that wait for an operator.",
    ),
    key(
        "pki.approval_lifetime",
        Kind::Integer,
        "604800",
        "Seconds that a request waits for an operator (7 days).",
    ),
    key(
        "pki.default_profile",
        Kind::Text,
        "\"device\"",
        "The profile of requests that name none.",
    ),
    needed(
        "pki.profile[].name",
        Kind::Text,
        "\"device\"",
        "One section for each kind of certificate. The name is the label in CMP's address, or certProfile. `device` is there unless a\nsection has its name; the values here are those of any section that leaves them out, but for subject, san and renewal_grace.",
    ),
    key(
        "pki.profile[].keys",
        Kind::List,
        "[\"p256\", \"p384\", \"ed25519\", \"rsa\"]",
        "Kinds of keys accepted.",
    ),
    key(
        "pki.profile[].min_rsa_bits",
        Kind::Integer,
        "2048",
        "Least bits of an RSA key; the most are 4096.",
    ),
    key(
        "pki.profile[].lifetime",
        Kind::Integer,
        "7776000",
        "Seconds of validity (90 days).",
    ),
    key(
        "pki.profile[].backdate",
        Kind::Integer,
        "3600",
        "Seconds by which validity begins before the time of issue, for devices whose clocks are late.",
    ),
    key(
        "pki.profile[].subject",
        Kind::Text,
        "\"CN={endpoint_id}\"",
        "Subject. Variables: {endpoint_id}, {device}, {oui}, {product_class}, {serial}, and {cn}, the common name asked for.\nDefault: none, or what is asked for when from_request has `subject`.",
    ),
    key(
        "pki.profile[].san",
        Kind::List,
        "[\"URI:urn:bbf:usp:id:{endpoint_id}\"]",
        "Names in subjectAltName: URI:, DNS:, IP: and email:, with variables. Default: none.",
    ),
    key(
        "pki.profile[].from_request",
        Kind::List,
        "[]",
        "What a request may choose: subject, device (its own Endpoint ID), lifetime (a shorter one), and more names: dns, email, ip, uri.",
    ),
    key(
        "pki.profile[].strict",
        Kind::Boolean,
        "false",
        "Refuse a request that wants something else than it gets, instead of telling it.",
    ),
    key(
        "pki.profile[].key_usage",
        Kind::List,
        "[\"digital_signature\"]",
        "Also non_repudiation, key_encipherment, data_encipherment, key_agreement.",
    ),
    key(
        "pki.profile[].extended_key_usage",
        Kind::List,
        "[\"server_auth\", \"client_auth\"]",
        "Also code_signing, email_protection, time_stamping, cmc_ra, cmp_ca_key_generation, or object identifiers.",
    ),
    key(
        "pki.profile[].who",
        Kind::List,
        "[\"secret\", \"manufacturer\", \"approval\", \"renewal\"]",
        "Who may ask: by an enrolment secret, by a manufacturer's certificate, with an operator's approval, by the certificate that is renewed.\nAlso certificate (another one of this CA) and operator.",
    ),
    key(
        "pki.profile[].renewal_grace",
        Kind::Integer,
        "2592000",
        "Seconds after its end in which a certificate can still be renewed (30 days). Default: 0.",
    ),
    key(
        "pki.profile[].central_keys",
        Kind::Boolean,
        "false",
        "The CA may make the private key, for devices that cannot.",
    ),
    key(
        "pki.profile[].implicit_confirm",
        Kind::Boolean,
        "false",
        "A certificate needs no confirmation when the request asks for that.",
    ),
];
