//! The commented template that the program prints.

use super::{Key, keys};

/// A configuration file with every key, its meaning and its default.
pub fn template() -> String {
    let head = "# Homefleet server.\n# Every key can also be given as an environment variable: http.listen as HOMEFLEET_HTTP_LISTEN, host of the first\n\
         # [[mqtt]] as HOMEFLEET_MQTT_0_HOST.\n";
    text_of(head, keys())
}

/// The same for a proxy of its own.
pub fn proxy_template() -> String {
    let head = "# A proxy in front of CMP servers that speak HTTP only: homefleet cmp proxy --config FILE\n# Every key can also be given as an \
         environment variable: proxy.coap_listen as HOMEFLEET_PROXY_COAP_LISTEN, url of the\n# first [[proxy.upstream]] as \
         HOMEFLEET_PROXY_UPSTREAM_0_URL.\n";
    text_of(
        head,
        keys().filter(|key| super::proxy::is_of_proxy(key.path)),
    )
}

fn text_of<'a>(head: &str, keys: impl Iterator<Item = &'a Key>) -> String {
    let mut text = head.to_owned();
    let mut section = "";
    for key in keys {
        let list = key.path.split_once("[].");
        let (of, name) = list
            .or_else(|| key.path.split_once('.'))
            .unwrap_or(("", key.path));
        if of != section {
            section = of;
            // There may be several such sections, or none.
            text.push_str(&match list {
                Some(_) => format!("\n#[[{section}]]\n"),
                None => format!("\n[{section}]\n"),
            });
        }
        text.push('\n');
        for line in key.meaning.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        let entry = format!("{name} = {}", key.example);
        for line in entry.lines() {
            let mark = if key.optional || list.is_some() {
                "#"
            } else {
                ""
            };
            text.push_str(&format!("{mark}{line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::*;
    use super::template;

    /// The template with every key in effect.
    fn everything() -> String {
        template()
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_template_is_a_valid_configuration() {
        let config = Config::parse(&template(), "template", |_| None).unwrap();
        config.check().unwrap();
    }

    #[test]
    fn the_template_shows_the_defaults() {
        let mut shown = Config::parse(&everything(), "template", |_| None).unwrap();
        // Has one protection too many, and needs pki.enabled.
        let upstream = shown.cmp.upstream.remove(0);
        let defaults = CmpUpstream::new("ejbca", upstream.url.clone());
        assert_eq!(
            (upstream.timeout, upstream.wait, upstream.nest),
            (defaults.timeout, defaults.wait, defaults.nest)
        );
        let plain = Config::parse(&template(), "template", |_| None).unwrap();
        let mut coap = shown.coap.clone();
        (coap.plain_listen, coap.advertise) = (None, None);
        assert_eq!(coap, plain.coap);
        assert_eq!(shown.http, plain.http);
        assert_eq!(shown.device, plain.device);
        assert_eq!(shown.task, plain.task);
        assert_eq!(shown.subscribe, plain.subscribe);
        assert_eq!(shown.audit, plain.audit);
        let (mut tls, mut websocket) = (shown.tls.clone(), shown.websocket.clone());
        tls.brokers = None;
        (websocket.listen, websocket.plain_listen) = (None, None);
        (websocket.proxy_listen, websocket.proxies) = (None, Vec::new());
        (websocket.advertise, websocket.agent) = (None, Vec::new());
        assert_eq!(tls, plain.tls);
        assert_eq!(websocket, plain.websocket);
        assert_eq!(shown.uds.allow_uids, plain.uds.allow_uids);
        assert_eq!(shown.log, plain.log);
        let mut acs = shown.acs.clone();
        (acs.listen, acs.username, acs.password_file) = (None, None, None);
        (acs.tls_listen, acs.call_networks) = (None, Vec::new());
        (acs.files, acs.files_url, acs.kicked_url) = (None, None, None);
        assert_eq!(acs, plain.acs);
        let mut stun = shown.stun.clone();
        (stun.listen, stun.other, stun.advertise) = (None, None, None);
        assert_eq!(stun, plain.stun);
        assert_eq!(shown.home, plain.home);
        let mut cmp = shown.cmp.clone();
        (cmp.http_listen, cmp.https_listen) = (None, None);
        (cmp.coap_listen, cmp.coaps_listen) = (None, None);
        assert_eq!(cmp, plain.cmp);
        let mut pki = shown.pki.clone();
        assert_eq!(pki.profile, [PkiProfile::device()]);
        (pki.directory, pki.passphrase_file, pki.pin_file) = (None, None, None);
        (pki.crl_urls, pki.ocsp_urls, pki.ca_issuers_urls) = Default::default();
        pki.profile = Vec::new();
        assert_eq!(pki, plain.pki);
        let mut notif = shown.notif.clone();
        (notif.listen, notif.plain_listen) = (None, None);
        (notif.output, notif.publisher) = (Vec::new(), Vec::new());
        assert_eq!(notif, plain.notif);
        let output = &shown.notif.output[0];
        let defaults = NotifOutput::new("archive", OutputKind::Ndjson);
        assert_eq!(
            (output.queue, output.queue_bytes, output.retry_max),
            (defaults.queue, defaults.queue_bytes, defaults.retry_max)
        );
        assert_eq!(
            (output.max_size, output.max_age, output.keep_files),
            (defaults.max_size, defaults.max_age, defaults.keep_files)
        );
    }

    #[test]
    fn the_template_shows_the_defaults_of_brokers() {
        let mut shown = Config::parse(&everything(), "template", |_| None).unwrap();
        shown.cmp.upstream.clear();
        shown.check().unwrap();
        let text = format!(
            "{}\n[[stomp]]\nname = \"main\"\nhost = \"h\"\n[[mqtt]]\nname = \"main\"\nhost = \"h\"\n",
            template()
        );
        let plain = Config::parse(&text, "template", |_| None).unwrap();
        let (stomp, mqtt) = (&mut shown.stomp[0], &mut shown.mqtt[0]);
        assert_eq!(stomp.port(), plain.stomp[0].port());
        assert_eq!(mqtt.port(), plain.mqtt[0].port());
        (stomp.port, stomp.virtual_host, stomp.login) = (None, None, None);
        (stomp.password_file, stomp.destination) = (None, None);
        stomp.senders = None;
        (mqtt.port, mqtt.client_id, mqtt.username) = (None, None, None);
        (mqtt.password_file, mqtt.topic) = (None, None);
        mqtt.senders = None;
        stomp.host = "h".to_owned();
        mqtt.host = "h".to_owned();
        assert_eq!((&shown.stomp, &shown.mqtt), (&plain.stomp, &plain.mqtt));
    }

    #[test]
    fn every_key_can_be_given_as_a_variable() {
        for key in super::keys() {
            let value = match key.kind {
                Kind::List => "Device.X.Y".to_owned(),
                Kind::Integers => "1000, 1001".to_owned(),
                _ => key.example.trim_matches('"').to_owned(),
            };
            let variable = key.variable();
            let text = if key.path.contains("[]") {
                everything()
            } else {
                template()
            };
            let parsed = Config::parse(&text, "template", |name| {
                (name == variable).then(|| value.clone())
            });
            assert!(parsed.is_ok(), "{variable}: {parsed:?}");
        }
    }

    #[test]
    fn a_variable_wins_over_the_file() {
        let config = Config::parse(&template(), "template", |name| {
            (name == "HOMEFLEET_HTTP_LISTEN").then(|| "127.0.0.1:9".to_owned())
        });
        assert_eq!(config.unwrap().http.listen.port(), 9);
    }

    #[test]
    fn an_unknown_key_is_refused_with_line_and_column() {
        let text = "version = 1\nendpoint_id = \"proto::c\"\ndata_dir = \"/x\"\n[http]\n  listn = \"127.0.0.1:1\"\n";
        let error = Config::parse(text, "hf.toml", |_| None).unwrap_err();
        assert!(
            matches!(
                &error,
                ConfigError::Syntax {
                    line: 5,
                    column: 3,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .starts_with("hf.toml:5:3: unknown field `listn`"),
            "{error}"
        );
    }

    #[test]
    fn http_beyond_loopback_is_refused_without_a_tls_proxy() {
        let mut config = Config::parse(&template(), "template", |_| None).unwrap();
        config.http.listen = "0.0.0.0:8080".parse().unwrap();
        let error = config.check().unwrap_err();
        assert!(
            matches!(
                error,
                ConfigError::Value {
                    key: "http.listen",
                    ..
                }
            ),
            "{error}"
        );
        config.http.behind_tls_proxy = true;
        config.check().unwrap();
    }
}
