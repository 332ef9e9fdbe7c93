//! What goes over a limit is refused, by an error that says so.

use homefleet_cwmp::{
    DecodeError, Envelope, FaultCode, Header, Limits, Namespace, Side,
    message::GetParameterNamesResponse,
};

fn decode(text: &str, limits: &Limits) -> Result<Envelope, DecodeError> {
    Envelope::decode(text.as_bytes(), limits).map_err(|malformed| malformed.error)
}

fn envelope(body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:c=\"urn:dslforum-org:cwmp-1-0\"><s:Body>{body}</s:Body></s:Envelope>"
    )
}

#[test]
fn a_body_of_50_mb_is_refused_before_it_is_read() {
    let body = vec![b'a'; 50 << 20];
    let error = Envelope::decode(&body, &Limits::default())
        .unwrap_err()
        .error;
    assert_eq!(
        error,
        DecodeError::TooLarge {
            bytes: 50 << 20,
            limit: 32 << 20
        }
    );
    assert_eq!(
        error.fault_code(Side::Acs),
        Some(FaultCode::ACS_RESOURCES_EXCEEDED)
    );
    assert_eq!(
        error.fault_code(Side::Cpe),
        Some(FaultCode::RESOURCES_EXCEEDED)
    );
}

#[test]
fn deep_nesting_is_refused_where_it_gets_too_deep() {
    let limits = Limits::default();
    let nested = |depth: usize| {
        envelope(&format!(
            "<c:Reboot>{}{}</c:Reboot>",
            "<a>".repeat(depth),
            "</a>".repeat(depth)
        ))
    };
    assert!(decode(&nested(13), &limits).is_ok());
    let error = decode(&nested(14), &limits).unwrap_err();
    assert!(
        matches!(error, DecodeError::TooDeep { limit: 16, .. }),
        "{error}"
    );
    assert_eq!(error.fault_code(Side::Acs), None);
    assert!(
        decode(&nested(1_000_000), &limits).is_err(),
        "nothing recurses"
    );
}

#[test]
fn too_many_elements_are_refused() {
    let limits = Limits {
        elements: 100,
        ..Limits::default()
    };
    let many = |count: usize| envelope(&format!("<c:Reboot>{}</c:Reboot>", "<a/>".repeat(count)));
    assert!(decode(&many(97), &limits).is_ok());
    let error = decode(&many(98), &limits).unwrap_err();
    assert!(
        matches!(error, DecodeError::TooMany { limit: 100, .. }),
        "{error}"
    );
}

#[test]
fn long_attributes_are_refused() {
    let limits = Limits {
        attributes: 200,
        ..Limits::default()
    };
    let long = |count: usize| envelope(&format!("<c:Reboot a=\"{}\"/>", "b".repeat(count)));
    assert!(decode(&long(190), &limits).is_ok());
    let error = decode(&long(200), &limits).unwrap_err();
    assert!(
        matches!(error, DecodeError::Attributes { limit: 200, .. }),
        "{error}"
    );
}

#[test]
fn an_answer_with_200_000_names_is_read() {
    let infos = (0..200_000)
        .map(|number| {
            (
                format!("Device.IP.Interface.{number}.IPv4Address.1.IPAddress"),
                true,
            )
        })
        .collect();
    let answer = GetParameterNamesResponse { infos };
    let bytes = Envelope::new(Namespace::V1_2, Header::default(), answer.clone()).encode();
    let read = Envelope::decode(&bytes, &Limits::default()).unwrap();
    assert_eq!(read.message, answer.into());
}

#[test]
fn document_types_and_entities_are_refused() {
    let bomb = format!(
        "<!DOCTYPE a [<!ENTITY b \"bbbbbbbbbb\"><!ENTITY c \"&b;&b;&b;&b;&b;\">]>{}",
        envelope("<c:Reboot><CommandKey>&c;&c;&c;</CommandKey></c:Reboot>")
    );
    let error = decode(&bomb, &Limits::default()).unwrap_err();
    assert!(matches!(error, DecodeError::DocumentType { .. }), "{error}");
    for place in ["<CommandKey>&c;</CommandKey>", "<Else>&c;</Else>", "&c;"] {
        let text = envelope(&format!("<c:Reboot>{place}</c:Reboot>"));
        let error = decode(&text, &Limits::default()).unwrap_err();
        assert!(
            matches!(&error, DecodeError::Entity { name, .. } if name == "c"),
            "{error}"
        );
        assert_eq!(error.fault_code(Side::Acs), None);
    }
}
