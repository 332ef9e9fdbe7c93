//! The commented template that the program prints.

use super::KEYS;

/// A configuration file with every key, its meaning and its default.
pub fn template() -> String {
    let mut text = String::from(
        "# Homefleet server.\n# Every key can also be given as an environment variable: http.listen as HOMEFLEET_HTTP_LISTEN.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (of, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if of != section {
            section = of;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push('\n');
        for line in key.meaning.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        let entry = format!("{name} = {}", key.example);
        for line in entry.lines() {
            let mark = if key.optional { "#" } else { "" };
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
        let shown = Config::parse(&everything(), "template", |_| None).unwrap();
        let plain = Config::parse(&template(), "template", |_| None).unwrap();
        let mut coap = shown.coap.clone();
        (coap.plain_listen, coap.advertise) = (None, None);
        assert_eq!(coap, plain.coap);
        assert_eq!(shown.http, plain.http);
        assert_eq!(shown.device, plain.device);
        assert_eq!(shown.task, plain.task);
        assert_eq!(shown.subscribe, plain.subscribe);
        assert_eq!(shown.audit, plain.audit);
        assert_eq!(shown.tls, plain.tls);
        assert_eq!(shown.log, plain.log);
    }

    #[test]
    fn every_key_can_be_given_as_a_variable() {
        for key in KEYS {
            let value = match key.kind {
                Kind::List => "Device.X.Y".to_owned(),
                _ => key.example.trim_matches('"').to_owned(),
            };
            let variable = key.variable();
            let parsed = Config::parse(&template(), "template", |name| {
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
