//! The session of an ACS, against a CPE played by hand.

use homefleet_cwmp::{
    acs::{AcsEvent, Config, NotNow, Outcome, SendError},
    fault::Retry,
    message::*,
    *,
};

use crate::{
    samples,
    world::{Server, seconds},
};

#[test]
fn a_session_is_inform_empty_post_requests_and_204() {
    let mut server = Server::new();
    server.post(Some("abc"), samples::inform());
    let Some(AcsEvent::Inform { inform, version }) = server.event() else {
        panic!("no Inform");
    };
    assert_eq!((*inform, version), (samples::inform(), Version::V1_2));
    assert_eq!(
        server.session.poll_transmit(),
        None,
        "not before somebody decides"
    );
    server.session.accept(server.now).unwrap();
    let answer = server.answer();
    assert_eq!(answer.header, Header::with_id("abc"));
    assert_eq!(answer.message, InformResponse { max_envelopes: 1 }.into());
    server.post_empty();
    for request in samples::to_cpe() {
        assert_eq!(server.event(), Some(AcsEvent::Ready));
        let id = server.session.send(server.now, request.clone()).unwrap();
        let sent = server.answer();
        assert_eq!(sent.message, request);
        let message = samples::response(&request);
        server.post(sent.header.id.as_deref(), message.clone());
        assert_eq!(server.event(), Some(AcsEvent::Response { id, message }));
    }
    assert_eq!(server.event(), Some(AcsEvent::Ready));
    server.session.finish(server.now).unwrap();
    assert_eq!(server.status(), 204);
    assert_eq!(server.session.poll_timeout(), Some(server.now + seconds(5)));
    server.session.handle_timeout(server.now + seconds(5));
    assert_eq!(server.ended(), (Outcome::Done, None));
}

#[test]
fn requests_of_the_cpe_are_served_before_ours() {
    let mut server = Server::informed();
    for request in samples::to_acs().into_iter().skip(1) {
        server.post(Some("x 1"), request.clone());
        assert_eq!(server.event(), Some(AcsEvent::Request(request.clone())));
        assert_eq!(
            server.session.send(server.now, Reboot::default()),
            Err(SendError::NotNow)
        );
        server
            .session
            .respond(server.now, samples::response(&request))
            .unwrap();
        let answer = server.answer();
        assert_eq!(answer.header, Header::with_id("x 1"));
        assert_eq!(answer.message, samples::response(&request));
    }
    assert_eq!(server.event(), None, "our turn comes with the empty POST");
    server.post_empty();
    assert_eq!(server.event(), Some(AcsEvent::Ready));
}

#[test]
fn get_rpc_methods_is_answered_with_what_the_version_has() {
    let config = Config {
        methods: vec![Method::TransferComplete, Method::AutonomousTransferComplete],
        ..Config::default()
    };
    let mut server = Server::with(config);
    server.namespace = Namespace::V1_0;
    server.inform();
    server.post(None, GetRPCMethods {});
    let Message::GetRPCMethodsResponse(response) = server.answer().message else {
        panic!("another answer");
    };
    assert_eq!(
        response.methods,
        ["GetRPCMethods", "Inform", "TransferComplete"]
    );
    server.post(Some("1"), RequestDownload::default());
    let answer = server.answer();
    assert_eq!(
        answer.message,
        Fault::new(FaultCode::ACS_METHOD_NOT_SUPPORTED).into()
    );
    server.post(Some("1"), Reboot::default());
    assert_eq!(
        server.answer().message,
        Fault::new(FaultCode::ACS_METHOD_NOT_SUPPORTED).into()
    );
    assert_eq!(server.session.counters().unsupported, 2);
    server.post_empty();
    assert_eq!(server.event(), Some(AcsEvent::Ready), "the session goes on");
}

#[test]
fn a_request_out_of_the_blue_is_denied_and_harms_nobody() {
    for request in samples::to_acs() {
        let mut server = Server::new();
        server.post(Some("9"), request.clone());
        let answer = server.answer();
        assert_eq!(answer.header.id.as_deref(), Some("9"));
        assert_eq!(
            answer.message,
            Fault::new(FaultCode::ACS_REQUEST_DENIED).into()
        );
        assert_eq!(server.ended().0, Outcome::OutOfOrder(request.name()));
        assert_eq!(server.session.counters().out_of_the_blue, 1);
        assert!(server.session.is_ended());
        server.inform();
    }
    let mut server = Server::new();
    server.post_empty();
    assert_eq!(server.status(), 400);
    assert_eq!(server.ended().0, Outcome::OutOfOrder("nothing"));
    let mut server = Server::new();
    server.post(None, InformResponse::default());
    assert_eq!(server.status(), 400);
    assert_eq!(server.ended().0, Outcome::OutOfOrder("InformResponse"));
}

#[test]
fn a_response_that_is_not_due_ends_the_session() {
    let mut server = Server::informed();
    server.post(None, RebootResponse {});
    assert_eq!(server.status(), 400);
    assert_eq!(
        server.ended(),
        (Outcome::OutOfOrder("RebootResponse"), None)
    );
    let wrong: [(Option<&str>, Option<Message>, Outcome); 4] = [
        (
            Some("1"),
            Some(FactoryResetResponse {}.into()),
            Outcome::OutOfOrder("FactoryResetResponse"),
        ),
        (
            Some("1"),
            Some(TransferComplete::default().into()),
            Outcome::OutOfOrder("TransferComplete"),
        ),
        (Some("2"), Some(RebootResponse {}.into()), Outcome::WrongId),
        (None, None, Outcome::OutOfOrder("nothing")),
    ];
    for (header, message, outcome) in wrong {
        let mut server = Server::ready();
        let id = server.session.send(server.now, Reboot::default()).unwrap();
        server.answer();
        match message {
            Some(message) => server.post(header, message),
            None => server.post_empty(),
        }
        assert_eq!(server.status(), 400);
        assert_eq!(
            server.ended(),
            (outcome, Some(id)),
            "what it did is not known"
        );
        assert_eq!(server.event(), None);
    }
}

#[test]
fn a_response_without_an_id_is_taken_and_counted() {
    let mut server = Server::ready();
    let id = server.session.send(server.now, Reboot::default()).unwrap();
    server.answer();
    server.post(None, RebootResponse {});
    let message = RebootResponse {}.into();
    assert_eq!(server.event(), Some(AcsEvent::Response { id, message }));
    assert_eq!(server.session.counters().without_id, 1);
}

#[test]
fn faults_are_told_with_what_to_do_about_them() {
    let cases = [
        (FaultCode::INTERNAL_ERROR, Retry::Later),
        (FaultCode::INVALID_PARAMETER_NAME, Retry::Never),
        (FaultCode::RESOURCES_EXCEEDED, Retry::Later),
        (FaultCode(9800), Retry::Never),
    ];
    let mut server = Server::ready();
    for (code, retry) in cases {
        let id = server.session.send(server.now, Reboot::default()).unwrap();
        let sent = server.answer();
        let fault = Fault::new(code);
        server.post(sent.header.id.as_deref(), fault.clone());
        assert_eq!(server.event(), Some(AcsEvent::Fault { id, fault, retry }));
        assert_eq!(server.event(), Some(AcsEvent::Ready));
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_told_and_the_session_goes_on() {
    let mut server = Server::ready();
    let id = server
        .session
        .send(server.now, AddObject::default())
        .unwrap();
    server.answer();
    let body = br#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><AddObjectResponse/></s:Body></s:Envelope>"#;
    server.session.handle_input(server.now, body).unwrap();
    let error = DecodeError::Missing {
        element: "InstanceNumber",
        within: "AddObjectResponse",
    };
    assert_eq!(server.event(), Some(AcsEvent::Unreadable { id, error }));
    assert_eq!(server.event(), Some(AcsEvent::Ready));
    assert_eq!(server.session.counters().malformed, 1);
}

#[test]
fn a_request_that_cannot_be_read_is_answered_with_a_fault() {
    let soap = |body: &str| {
        format!(
            r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header><ID>5</ID></s:Header><s:Body>{body}</s:Body></s:Envelope>"#
        )
    };
    let mut server = Server::informed();
    for (body, code) in [
        ("<X_Do/>", FaultCode::ACS_METHOD_NOT_SUPPORTED),
        ("<RequestDownload/>", FaultCode::ACS_INVALID_ARGUMENTS),
    ] {
        server
            .session
            .handle_input(server.now, soap(body).as_bytes())
            .unwrap();
        let answer = server.answer();
        assert_eq!(answer.header.id.as_deref(), Some("5"));
        let Message::Fault(fault) = answer.message else {
            panic!("{answer:?}");
        };
        assert_eq!(fault.code, code);
        assert!(!server.session.is_ended());
    }
    let mut server = Server::new();
    server
        .session
        .handle_input(server.now, soap("<Inform/>").as_bytes())
        .unwrap();
    assert!(matches!(server.answer().message, Message::Fault(_)));
    assert!(matches!(server.ended().0, Outcome::Malformed(_)));
}

#[test]
fn garbage_is_answered_with_400_in_every_state() {
    for mut server in [Server::new(), Server::informed()] {
        server.session.handle_input(server.now, b"<html>").unwrap();
        assert_eq!(server.status(), 400);
        assert!(matches!(server.ended().0, Outcome::Malformed(_)));
    }
    let mut server = Server::ready();
    let id = server.session.send(server.now, Reboot::default()).unwrap();
    server.answer();
    server
        .session
        .handle_input(server.now, &[0xFF, 0xFE])
        .unwrap();
    assert_eq!(server.status(), 400);
    assert_eq!(server.ended().1, Some(id));
}

#[test]
fn an_inform_is_refused_or_asked_for_again() {
    let mut server = Server::new();
    server.post(Some("1"), samples::inform());
    server.event();
    server
        .session
        .refuse(server.now, Fault::new(FaultCode::ACS_RETRY_REQUEST))
        .unwrap();
    assert_eq!(
        server.answer().message,
        Fault::new(FaultCode::ACS_RETRY_REQUEST).into()
    );
    assert_eq!(server.event(), None);
    server.inform();
    let mut server = Server::new();
    server.post(Some("1"), samples::inform());
    server.event();
    server
        .session
        .refuse(server.now, Fault::new(FaultCode::ACS_REQUEST_DENIED))
        .unwrap();
    assert_eq!(server.answer().header.id.as_deref(), Some("1"));
    assert_eq!(server.ended().0, Outcome::Refused);
    assert_eq!(server.session.accept(server.now), Err(NotNow));
    let fault = Fault::new(FaultCode::ACS_REQUEST_DENIED);
    assert_eq!(server.session.refuse(server.now, fault), Err(NotNow));
}

#[test]
fn a_request_is_refused_and_the_session_goes_on() {
    let mut server = Server::informed();
    server.post(Some("4"), RequestDownload::default());
    server.event();
    assert_eq!(
        server
            .session
            .respond(server.now, KickedResponse::default()),
        Err(NotNow)
    );
    let fault = Fault::new(FaultCode::ACS_RESOURCES_EXCEEDED);
    server.session.refuse(server.now, fault.clone()).unwrap();
    let answer = server.answer();
    assert_eq!(
        (answer.header.id.as_deref(), answer.message),
        (Some("4"), fault.into())
    );
    server.post_empty();
    assert_eq!(server.event(), Some(AcsEvent::Ready));
}

#[test]
fn versions_are_negotiated() {
    let cases = [
        (Namespace::V1_0, None, Version::V1_4, Version::V1_0, None),
        (Namespace::V1_1, None, Version::V1_4, Version::V1_1, None),
        (Namespace::V1_2, None, Version::V1_4, Version::V1_2, None),
        (
            Namespace::V1_2,
            Some(Version::ALL.to_vec()),
            Version::V1_4,
            Version::V1_4,
            Some(Version::V1_4),
        ),
        (
            Namespace::V1_2,
            Some(vec![Version::V1_0, Version::V1_2]),
            Version::V1_4,
            Version::V1_2,
            Some(Version::V1_2),
        ),
        (
            Namespace::V1_2,
            Some(Version::ALL.to_vec()),
            Version::V1_0,
            Version::V1_0,
            None,
        ),
    ];
    for (namespace, supported, own, version, used) in cases {
        let config = Config {
            version: own,
            ..Config::default()
        };
        let mut server = Server::with(config);
        server.namespace = namespace;
        let header = Header {
            supported_versions: supported,
            ..Header::default()
        };
        server.post_with(header, samples::inform());
        let event = server.event();
        assert!(
            matches!(&event, Some(AcsEvent::Inform { version: spoken, .. }) if *spoken == version),
            "{event:?}"
        );
        server.session.accept(server.now).unwrap();
        let answer = server.answer();
        assert_eq!(answer.namespace, Some(version.namespace()));
        assert_eq!(answer.header.use_version, used);
        server.post_empty();
        server.event();
        let sent = server.session.send(
            server.now,
            ChangeDUState {
                operations: vec![Operation::Install(Install::default())],
                ..ChangeDUState::default()
            },
        );
        assert_eq!(sent.is_ok(), version >= Version::V1_2);
        if version < Version::V1_2 {
            assert_eq!(sent, Err(SendError::Version(version)));
        }
    }
}

#[test]
fn a_cpe_without_a_version_of_ours_is_told_8006() {
    let mut server = Server::new();
    let header = Header {
        id: Some("1".to_owned()),
        supported_versions: Some(Vec::new()),
        ..Header::default()
    };
    server.post_with(header, samples::inform());
    let answer = server.answer();
    assert_eq!(
        answer.message,
        Fault::new(FaultCode::ACS_VERSION_INCOMPATIBLE).into()
    );
    assert_eq!(server.ended().0, Outcome::Refused);
}

#[test]
fn held_requests_are_asked_for_in_every_envelope_until_the_end() {
    let mut server = Server::new();
    server.session.set_hold(true);
    server.post(Some("1"), samples::inform());
    server.event();
    server.session.accept(server.now).unwrap();
    assert!(server.answer().header.hold_requests);
    server.post_empty();
    server.event();
    server.session.send(server.now, Reboot::default()).unwrap();
    let sent = server.answer();
    assert!(sent.header.hold_requests);
    server.post(sent.header.id.as_deref(), RebootResponse {});
    server.event();
    server.event();
    server.session.finish(server.now).unwrap();
    assert_eq!(server.status(), 204);
    server.post(Some("2"), TransferComplete::default());
    assert!(
        matches!(server.event(), Some(AcsEvent::Request(_))),
        "what was held comes now"
    );
    server
        .session
        .respond(server.now, TransferCompleteResponse {})
        .unwrap();
    assert!(!server.answer().header.hold_requests);
    server.post_empty();
    assert_eq!(server.event(), Some(AcsEvent::Ready));
}

#[test]
fn a_cpe_that_is_silent_is_left_with_what_was_asked() {
    let mut server = Server::ready();
    assert_eq!(server.session.poll_timeout(), None, "our turn");
    let id = server.session.send(server.now, Reboot::default()).unwrap();
    server.answer();
    assert_eq!(
        server.session.poll_timeout(),
        Some(server.now + seconds(30))
    );
    server.session.handle_timeout(server.now + seconds(29));
    assert_eq!(server.event(), None);
    server.session.handle_timeout(server.now + seconds(30));
    assert_eq!(server.ended(), (Outcome::TimedOut, Some(id)));
    assert_eq!(server.session.poll_transmit(), None);
}

#[test]
fn a_cpe_may_ask_for_more_time_within_bounds() {
    for (asked, given) in [
        (Some(100), 100),
        (Some(10), 30),
        (Some(u32::MAX), 300),
        (None, 30),
    ] {
        let mut server = Server::new();
        let header = Header {
            session_timeout: asked,
            ..Header::default()
        };
        server.post_with(header, samples::inform());
        server.event();
        server.session.accept(server.now).unwrap();
        server.answer();
        assert_eq!(
            server.session.poll_timeout(),
            Some(server.now + seconds(given))
        );
    }
}

#[test]
fn an_inform_in_the_middle_begins_again() {
    let mut server = Server::ready();
    let id = server.session.send(server.now, Reboot::default()).unwrap();
    server.answer();
    server.post(Some("1"), samples::inform());
    assert_eq!(server.ended(), (Outcome::Interrupted, Some(id)));
    assert!(matches!(server.event(), Some(AcsEvent::Inform { .. })));
    server.session.accept(server.now).unwrap();
    assert!(matches!(
        server.answer().message,
        Message::InformResponse(_)
    ));
}

#[test]
fn a_post_before_the_last_is_answered_does_nothing() {
    let mut server = Server::new();
    server.post(Some("1"), samples::inform());
    assert_eq!(server.session.handle_input(server.now, b""), Err(NotNow));
    assert!(matches!(server.event(), Some(AcsEvent::Inform { .. })));
    assert_eq!(
        server.session.handle_input(server.now, b"<html>"),
        Err(NotNow)
    );
    server.session.accept(server.now).unwrap();
    server.answer();
    assert_eq!(server.session.counters().posts, 1);
}

#[test]
fn what_is_no_request_to_a_cpe_is_not_sent() {
    let mut server = Server::ready();
    for wrong in [
        samples::inform().into(),
        RebootResponse {}.into(),
        Message::from(Fault::default()),
        RequestDownload::default().into(),
    ] {
        assert_eq!(
            server.session.send(server.now, wrong),
            Err(SendError::NotARequest)
        );
    }
    assert!(server.session.send(server.now, GetRPCMethods {}).is_ok());
    assert_eq!(server.session.finish(server.now), Err(NotNow));
}

#[test]
fn a_session_without_end_is_ended() {
    let config = Config {
        most_posts: 3,
        ..Config::default()
    };
    let mut server = Server::with(config);
    server.inform();
    for _ in 0..2 {
        server.post(None, GetRPCMethods {});
        server.answer();
    }
    server.post(None, GetRPCMethods {});
    assert_eq!(server.status(), 400);
    assert_eq!(server.ended().0, Outcome::TooLong);
}

#[test]
fn an_aborted_session_answers_what_it_owes() {
    let mut server = Server::ready();
    server.session.abort();
    assert_eq!(server.status(), 400);
    assert_eq!(server.ended().0, Outcome::Aborted);
    let mut server = Server::informed();
    server.session.abort();
    assert_eq!(server.session.poll_transmit(), None);
    assert_eq!(server.ended().0, Outcome::Aborted);
    server.session.abort();
    assert_eq!(server.event(), None);
}
