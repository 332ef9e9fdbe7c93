//! Envelopes: what is written is read again, what devices write is understood, what is wrong is refused.

use homefleet_cwmp::{message::*, *};

use crate::samples;

fn decode(text: &str) -> Result<Envelope, DecodeError> {
    Envelope::decode(text.as_bytes(), &Limits::default()).map_err(|malformed| malformed.error)
}

fn envelope(body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:c=\"urn:dslforum-org:cwmp-1-1\"><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn message(body: &str) -> Message {
    decode(&envelope(body)).unwrap().message
}

#[test]
fn every_message_is_read_as_it_is_written() {
    for namespace in [Namespace::V1_0, Namespace::V1_1, Namespace::V1_2] {
        for message in samples::messages() {
            let envelope = Envelope::new(namespace, Header::with_id("a<b"), message);
            let read = Envelope::decode(&envelope.encode(), &Limits::default());
            assert_eq!(read, Ok(envelope));
        }
    }
}

#[test]
fn the_samples_hold_a_request_and_a_response_of_every_method() {
    for method in Method::ALL {
        for is_request in [true, false] {
            let mut all = samples::messages().into_iter();
            let of = all.find(|m| m.method() == Some(*method) && m.is_request() == is_request);
            let message = of.unwrap_or_else(|| panic!("{method}"));
            let name = message.name().strip_suffix("Response");
            assert_eq!(name.unwrap_or(message.name()), method.name());
        }
        assert_eq!(method.name().parse(), Ok(*method));
    }
    assert_eq!("Infirm".parse::<Method>(), Err(UnknownMethod));
}

#[test]
fn headers_are_read_as_they_are_written() {
    let header = Header {
        id: Some(" 1 ".to_owned()),
        hold_requests: true,
        session_timeout: Some(45),
        supported_versions: Some(vec![Version::V1_0, Version::V1_4]),
        use_version: Some(Version::V1_4),
        not_understood: None,
    };
    let written = Envelope::new(Namespace::V1_2, header.clone(), GetRPCMethods {});
    let read = Envelope::decode(&written.encode(), &Limits::default()).unwrap();
    assert_eq!(read.header, header);
}

#[test]
fn an_envelope_begins_without_a_declaration_unless_one_is_wanted() {
    let envelope = Envelope::new(Namespace::V1_0, Header::default(), GetRPCMethods {});
    assert!(envelope.encode().starts_with(b"<SOAP-ENV:Envelope "));
    let with = soap::EncodeOptions { declaration: true };
    assert!(
        envelope
            .encode_with(&with)
            .starts_with(b"<?xml version=\"1.0\"")
    );
}

#[test]
fn any_prefix_will_do_and_none_too() {
    let prefixed = "<a:Envelope xmlns:a='http://schemas.xmlsoap.org/soap/envelope/' xmlns:b='urn:dslforum-org:cwmp-1-0'><a:Header><b:ID a:mustUnderstand='1'>7</b:ID></a:Header><a:Body><b:Reboot><CommandKey>k</CommandKey></b:Reboot></a:Body></a:Envelope>";
    let default = "<Envelope xmlns='http://schemas.xmlsoap.org/soap/envelope/'><Header><ID xmlns='urn:dslforum-org:cwmp-1-0'>7</ID></Header><Body><Reboot xmlns='urn:dslforum-org:cwmp-1-0'><CommandKey>k</CommandKey></Reboot></Body></Envelope>";
    let undeclared = "<Envelope xmlns:u='urn:dslforum-org:cwmp-1-0'><Header><u:ID>7</u:ID></Header><Body><Reboot><u:CommandKey>k</u:CommandKey></Reboot></Body></Envelope>";
    for text in [prefixed, default, undeclared] {
        let read = decode(text).unwrap();
        assert_eq!(read.namespace, Some(Namespace::V1_0), "{text}");
        assert_eq!(read.header.id.as_deref(), Some("7"), "{text}");
        let command_key = "k".to_owned();
        assert_eq!(read.message, Reboot { command_key }.into(), "{text}");
    }
}

#[test]
fn the_namespace_is_that_of_the_message() {
    let text = envelope("<n:Reboot xmlns:n='urn:dslforum-org:cwmp-1-2'/>");
    assert_eq!(decode(&text).unwrap().namespace, Some(Namespace::V1_2));
    let text = envelope("<n:Reboot xmlns:n='urn:example'/>");
    assert_eq!(decode(&text).unwrap().namespace, Some(Namespace::V1_1));
    let none = envelope("<Reboot/>").replace("cwmp-1-1", "cwmp-2-0");
    assert_eq!(decode(&none).unwrap().namespace, None);
}

#[test]
fn a_byte_order_mark_a_declaration_comments_and_whitespace_are_passed_over() {
    let inner = envelope(
        "\n <!-- a -- b --><c:Reboot>\n\t<CommandKey>k<!-- c --></CommandKey> </c:Reboot>\r\n",
    );
    let text = format!("\u{FEFF}<?xml version=\"1.0\"?>\n<!-- d --><?target data?>{inner}\n\n");
    let command_key = "k".to_owned();
    assert_eq!(
        decode(&text).unwrap().message,
        Reboot { command_key }.into()
    );
}

#[test]
fn a_wrong_array_count_and_other_item_names_do_not_matter() {
    let body = "<c:GetParameterValuesResponse><ParameterList x:arrayType='c:ParameterValueStruct[16]' xmlns:x='urn:x'><item><Name> Device.A </Name><Value>1</Value><Extra><Deep/></Extra></item><ParameterValueStruct><Value xsi:type='xsd:int'>2</Value><Name>Device.B</Name></ParameterValueStruct></ParameterList></c:GetParameterValuesResponse>";
    let Message::GetParameterValuesResponse(response) = message(body) else {
        panic!("another message");
    };
    let all: Vec<_> = response.values.iter().collect();
    let int = Value {
        kind: ValueType::Int,
        text: "2",
    };
    assert_eq!(all, [("Device.A", Value::string("1")), ("Device.B", int)]);
}

#[test]
fn types_are_known_by_their_names_whatever_the_prefix_and_unknown_ones_are_strings() {
    let cases = [
        ("xsi:type='xs:unsignedInt'", ValueType::UnsignedInt),
        ("type='dateTime'", ValueType::DateTime),
        ("xsi:type='SOAP-ENC:base64'", ValueType::Base64),
        ("xsi:type='xsd:anyURI'", ValueType::String),
        ("", ValueType::String),
    ];
    for (attribute, kind) in cases {
        let body = format!(
            "<c:GetParameterValuesResponse><ParameterList><P><Name>A</Name><Value {attribute}>x</Value></P></ParameterList></c:GetParameterValuesResponse>"
        );
        let Message::GetParameterValuesResponse(response) = message(&body) else {
            panic!("another message");
        };
        assert_eq!(
            response.values.value("A").map(|value| value.kind),
            Some(kind),
            "{attribute}"
        );
    }
}

#[test]
fn text_is_what_it_stands_for() {
    let cases = [
        ("a&amp;b&lt;&gt;&quot;&apos;&#65;&#x42;", "a&b<>\"'AB"),
        ("<![CDATA[<raw> & ]]>x", "<raw> & x"),
        ("a\r\nb\rc&#13;", "a\nb\nc\r"),
        (" spaces stay ", " spaces stay "),
        (
            "bell\u{7}&#7;&#0;&#xD800;",
            "bell\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}",
        ),
        ("\u{FFFF}\u{FF00}", "\u{FFFD}\u{FF00}"),
        ("a<i>no</i>b", "ab"),
    ];
    for (written, meant) in cases {
        let body = format!("<c:Reboot><CommandKey>{written}</CommandKey></c:Reboot>");
        let command_key = meant.to_owned();
        assert_eq!(message(&body), Reboot { command_key }.into(), "{written}");
    }
}

#[test]
fn latin_1_is_read_where_it_is_declared_and_refused_where_not() {
    let body = envelope("<c:Reboot><CommandKey>caf#</CommandKey></c:Reboot>");
    let bytes = |head: &str| -> Vec<u8> {
        let text = format!("{head}{body}");
        text.bytes()
            .map(|byte| if byte == b'#' { 0xE9 } else { byte })
            .collect()
    };
    let declared = bytes("<?xml version='1.0' encoding='ISO-8859-1'?>");
    let read = Envelope::decode(&declared, &Limits::default()).unwrap();
    let command_key = "caf\u{e9}".to_owned();
    assert_eq!(read.message, Reboot { command_key }.into());
    let error = Envelope::decode(&bytes(""), &Limits::default())
        .unwrap_err()
        .error;
    let offset = body.find('#').unwrap();
    assert_eq!(error, DecodeError::Encoding { offset });
}

#[test]
fn unknown_headers_are_passed_over_and_those_to_be_understood_are_told() {
    let head = |inner: &str| {
        envelope("<c:Reboot/>")
            .replace("<s:Body>", &format!("<s:Header>{inner}</s:Header><s:Body>"))
    };
    let read = decode(&head(
        "<x:Other>1</x:Other><c:NoMoreRequests>1</c:NoMoreRequests><c:ID>5</c:ID>",
    ))
    .unwrap();
    assert_eq!(read.header, Header::with_id("5"));
    let read = decode(&head("<x:Other s:mustUnderstand='1'><a/></x:Other>")).unwrap();
    assert_eq!(read.header.not_understood.as_deref(), Some("Other"));
    let read = decode(&head("<c:HoldRequests s:mustUnderstand='1'>true</c:HoldRequests><c:SupportedCWMPVersions>1.0, 1.4,9.9</c:SupportedCWMPVersions>")).unwrap();
    assert!(read.header.hold_requests);
    let known = vec![Version::V1_0, Version::V1_4];
    assert_eq!(read.header.supported_versions, Some(known));
}

#[test]
fn an_inform_of_a_poor_device_is_read() {
    let body = "<c:Inform><DeviceId><OUI>00D09E</OUI><SerialNumber> 1 </SerialNumber></DeviceId><Event><EventStruct><EventCode>6 CONNECTION REQUEST</EventCode></EventStruct></Event><MaxEnvelopes/><CurrentTime>unknown</CurrentTime></c:Inform>";
    let Message::Inform(inform) = message(body) else {
        panic!("another message");
    };
    assert_eq!(inform.device.serial_number, "1");
    assert_eq!(inform.events, [Event::new(EventCode::ConnectionRequest)]);
    assert_eq!((inform.max_envelopes, inform.retry_count), (0, 0));
    assert_eq!(inform.current_time, DateTime::UNKNOWN);
    assert!(inform.values.is_empty());
}

#[test]
fn missing_arguments_are_told_with_the_fault_of_either_side() {
    let cases = [
        (
            "<c:SetParameterValues><ParameterKey/></c:SetParameterValues>",
            "ParameterList",
            "SetParameterValues",
        ),
        (
            "<c:GetParameterValues/>",
            "ParameterNames",
            "GetParameterValues",
        ),
        ("<c:Inform><Event/></c:Inform>", "DeviceId", "Inform"),
        (
            "<c:Inform><DeviceId><OUI>1</OUI></DeviceId></c:Inform>",
            "SerialNumber",
            "DeviceId",
        ),
        (
            "<c:Download><URL>a</URL></c:Download>",
            "FileType",
            "Download",
        ),
        (
            "<c:AddObjectResponse/>",
            "InstanceNumber",
            "AddObjectResponse",
        ),
        ("<c:ChangeDUState/>", "Operations", "ChangeDUState"),
        (
            "<c:GetParameterNamesResponse><ParameterList><a/></ParameterList></c:GetParameterNamesResponse>",
            "Name",
            "ParameterInfoStruct",
        ),
        (
            "<c:GetParameterValuesResponse><ParameterList><a/></ParameterList></c:GetParameterValuesResponse>",
            "Name",
            "ParameterValueStruct",
        ),
    ];
    for (body, element, within) in cases {
        let error = decode(&envelope(body)).unwrap_err();
        assert_eq!(error, DecodeError::Missing { element, within });
        assert_eq!(
            error.fault_code(Side::Cpe),
            Some(FaultCode::INVALID_ARGUMENTS)
        );
        assert_eq!(
            error.fault_code(Side::Acs),
            Some(FaultCode::ACS_INVALID_ARGUMENTS)
        );
        assert_eq!(error.soap_code(), SoapCode::Client);
    }
}

#[test]
fn arguments_of_the_wrong_type_are_told() {
    let cases = [
        (
            "<c:ScheduleInform><DelaySeconds>-1</DelaySeconds></c:ScheduleInform>",
            "DelaySeconds",
            "-1",
        ),
        (
            "<c:GetParameterNames><NextLevel>maybe</NextLevel></c:GetParameterNames>",
            "NextLevel",
            "maybe",
        ),
        (
            "<c:DeleteObjectResponse><Status>2</Status></c:DeleteObjectResponse>",
            "Status",
            "2",
        ),
        (
            "<c:GetQueuedTransfersResponse><TransferList><a><State>4</State></a></TransferList></c:GetQueuedTransfersResponse>",
            "State",
            "4",
        ),
        (
            "<c:SetParameterAttributes><ParameterList><a><Name>A</Name><Notification>7</Notification></a></ParameterList></c:SetParameterAttributes>",
            "Notification",
            "7",
        ),
        (
            "<c:ChangeDUState><Operations xsi:type='c:Other'/></c:ChangeDUState>",
            "Operations",
            "c:Other",
        ),
        (
            "<c:DUStateChangeComplete><Results><UUID/><CurrentState>Gone</CurrentState></Results></c:DUStateChangeComplete>",
            "CurrentState",
            "Gone",
        ),
        (
            "<c:SetVouchers><VoucherList><base64>*</base64></VoucherList></c:SetVouchers>",
            "base64",
            "*",
        ),
    ];
    for (body, element, found) in cases {
        let error = decode(&envelope(body)).unwrap_err();
        let told = matches!(&error, DecodeError::Argument { element: e, found: f, .. } if e == element && f == found);
        assert!(told, "{error}");
        assert_eq!(
            error.fault_code(Side::Cpe),
            Some(FaultCode::INVALID_ARGUMENTS)
        );
    }
}

#[test]
fn an_unknown_method_is_told_with_its_id_and_namespace() {
    let text = envelope("<c:X_EXAMPLE_Do><a/></c:X_EXAMPLE_Do>")
        .replace("<s:Body>", "<s:Header><c:ID>9</c:ID></s:Header><s:Body>");
    let malformed = Envelope::decode(text.as_bytes(), &Limits::default()).unwrap_err();
    let name = "X_EXAMPLE_Do".to_owned();
    assert_eq!(malformed.error, DecodeError::Method { name });
    assert_eq!(malformed.header.id.as_deref(), Some("9"));
    assert_eq!(malformed.namespace, Some(Namespace::V1_1));
    assert_eq!(
        malformed.error.fault_code(Side::Cpe),
        Some(FaultCode::METHOD_NOT_SUPPORTED)
    );
    assert_eq!(
        malformed.error.fault_code(Side::Acs),
        Some(FaultCode::ACS_METHOD_NOT_SUPPORTED)
    );
}

#[test]
fn what_is_no_soap_at_all_is_told() {
    let soap = |what| DecodeError::Soap { what };
    assert_eq!(decode("").unwrap_err(), soap("nothing at all"));
    assert_eq!(decode("hello").unwrap_err(), soap("nothing at all"));
    assert_eq!(decode("<html/>").unwrap_err(), soap("another root element"));
    assert_eq!(
        decode(&envelope("")).unwrap_err(),
        soap("an envelope without a message")
    );
    let other = envelope("<c:Reboot/>").replace(
        "http://schemas.xmlsoap.org/soap/envelope/",
        "http://www.w3.org/2003/05/soap-envelope",
    );
    assert_eq!(decode(&other).unwrap_err(), DecodeError::SoapVersion);
    assert_eq!(
        DecodeError::SoapVersion.soap_code(),
        SoapCode::VersionMismatch
    );
    for broken in [
        "<a></b>",
        "<s:Envelope><s:Body>",
        "<s:Envelope a='1",
        "<Envelope><Body><Reboot/></Body></Envelope><again/>",
        "<Envelope><Body><Reboot/></Body></Wrong>",
    ] {
        let error = decode(broken).unwrap_err();
        assert!(
            matches!(error, DecodeError::Syntax { .. } | DecodeError::Soap { .. }),
            "{broken}: {error}"
        );
        assert_eq!(error.fault_code(Side::Acs), None, "{broken}");
    }
}

#[test]
fn faults_are_read_from_the_field() {
    let body = "<s:Fault><faultcode>s:Client.Authentication</faultcode><faultstring>CWMP fault</faultstring><faultactor/><detail><Fault><FaultCode>9003</FaultCode><FaultString>Invalid arguments</FaultString><SetParameterValuesFault><ParameterName>Device.A</ParameterName><FaultCode>9007</FaultCode></SetParameterValuesFault></Fault></detail></s:Fault>";
    let Message::Fault(fault) = message(body) else {
        panic!("another message");
    };
    assert_eq!(
        (fault.soap, fault.code),
        (SoapCode::Client, FaultCode::INVALID_ARGUMENTS)
    );
    assert_eq!(fault.parameters.len(), 1);
    assert_eq!(fault.parameters[0].code, FaultCode::INVALID_PARAMETER_VALUE);
    let bare = message("<s:Fault><faultcode>VersionMismatch</faultcode></s:Fault>");
    let Message::Fault(fault) = bare else {
        panic!("another message");
    };
    assert_eq!((fault.soap, fault.code.0), (SoapCode::VersionMismatch, 0));
}

#[test]
fn every_fault_code_has_a_side_a_text_and_a_class() {
    assert_eq!(FaultCode::ALL.len(), 33 + 7);
    for code in FaultCode::ALL {
        assert_ne!(code.text(), "Unknown fault");
        assert_eq!(code.side() == Some(Side::Cpe), code.0 >= 9000);
        let at_once = *code == FaultCode::ACS_RETRY_REQUEST;
        assert_eq!(code.retry() == fault::Retry::AtOnce, at_once);
    }
    assert_eq!(FaultCode(9850).side(), Some(Side::Cpe));
    assert_eq!(FaultCode(8850).side(), Some(Side::Acs));
    assert_eq!(FaultCode(7000).side(), None);
    assert_eq!(FaultCode(9005).to_string(), "9005 (Invalid parameter name)");
}

#[test]
fn no_password_and_no_value_is_shown() {
    let shown: String = samples::messages()
        .iter()
        .map(|m| format!("{m:?}"))
        .collect();
    assert!(!shown.contains("pass\""), "a password");
    assert!(!shown.contains("18446744073709551615"), "a value");
    assert!(shown.contains("Device.X.UnsignedLong"), "its name");
}

#[test]
fn a_value_is_canonical_text_of_its_type_or_refused() {
    let canonical = |kind, text| Value { kind, text }.canonical().ok();
    assert_eq!(canonical(ValueType::Boolean, "1").as_deref(), Some("true"));
    assert_eq!(canonical(ValueType::Int, "+07").as_deref(), Some("7"));
    assert_eq!(canonical(ValueType::UnsignedInt, "-1"), None);
    assert_eq!(canonical(ValueType::HexBinary, "ab").as_deref(), Some("AB"));
    assert_eq!(canonical(ValueType::Base64, "A"), None);
    for kind in ValueType::ALL {
        assert_eq!(ValueType::of(kind.data_type()), kind);
        assert_eq!(ValueType::parse(kind.name()), kind);
    }
}

#[test]
fn values_are_the_same_in_whatever_form_they_stand() {
    let bytes = include_bytes!("../../../../fuzz/corpus/cwmp/values-in-many-forms.xml");
    let read = Envelope::decode(bytes, &Limits::default()).unwrap();
    let Message::GetParameterValuesResponse(response) = read.message else {
        panic!("another message");
    };
    let all: Vec<_> = response
        .values
        .iter()
        .map(|(name, value)| (name, value.kind, value.text))
        .collect();
    assert_eq!(
        all,
        [
            ("Device.A", ValueType::String, "1"),
            ("Device.B", ValueType::Int, "2"),
            ("Device.C", ValueType::String, ""),
            ("Device.D", ValueType::Boolean, ""),
            ("Device.E", ValueType::Long, "3&"),
            ("Device.F", ValueType::String, "a>b"),
            ("Device.G", ValueType::String, "g"),
            ("Device.H", ValueType::String, "h"),
        ]
    );
}

#[test]
fn shortcuts_keep_within_the_limits() {
    let many = |count: usize| {
        let item =
            "<ParameterInfoStruct><Name>A</Name><Writable>1</Writable></ParameterInfoStruct>";
        envelope(&format!(
            "<c:GetParameterNamesResponse><ParameterList>{}</ParameterList></c:GetParameterNamesResponse>",
            item.repeat(count)
        ))
    };
    let limits = |elements, depth| Limits {
        elements,
        depth,
        ..Limits::default()
    };
    let read = |text: String, limits: Limits| {
        Envelope::decode(text.as_bytes(), &limits).map_err(|malformed| malformed.error)
    };
    assert!(read(many(10), limits(34, 6)).is_ok());
    let error = read(many(10), limits(33, 6)).unwrap_err();
    assert!(
        matches!(error, DecodeError::TooMany { limit: 33, .. }),
        "{error}"
    );
    let error = read(many(10), limits(34, 5)).unwrap_err();
    assert!(
        matches!(error, DecodeError::TooDeep { limit: 5, .. }),
        "{error}"
    );
    let wide = many(1).replace(
        "<Writable>",
        &format!("<Writable type='{}'>", "x".repeat(300)),
    );
    let narrow = Limits {
        attributes: 300,
        ..Limits::default()
    };
    let error = read(wide, narrow).unwrap_err();
    assert!(
        matches!(error, DecodeError::Attributes { limit: 300, .. }),
        "{error}"
    );
}

#[test]
fn an_error_is_short_whatever_was_sent() {
    let name = "x".repeat(100_000);
    let many = [
        format!("<{name}></y>"),
        format!("<Envelope><Body><{name}/></Body></Envelope>"),
        format!("<Envelope><Body><Reboot>&{name};</Reboot></Body></Envelope>"),
        envelope(&format!(
            "<c:ScheduleInform><DelaySeconds>{name}</DelaySeconds></c:ScheduleInform>"
        )),
    ];
    for text in many {
        let error = decode(&text).unwrap_err();
        assert!(error.to_string().len() < 300, "{:.400}", error.to_string());
    }
}
