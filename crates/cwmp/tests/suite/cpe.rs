//! The sessions of a CPE, against an ACS played by hand.

use homefleet_cwmp::{
    cpe::{
        Config, CpeEvent, Failure, HttpFailure, InformContent, Keep, NotNow, QueueError, Reply,
        RetryPolicy, Saved, Transmit, Waiting,
    },
    message::*,
    *,
};

use crate::{
    samples,
    world::{Device, content, cpe_config, seconds},
};

fn transfer(key: &str) -> Message {
    TransferComplete {
        command_key: key.to_owned(),
        ..TransferComplete::default()
    }
    .into()
}

fn codes(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event.command_key.as_str() {
            "" => event.code.to_string(),
            key => format!("{} {key}", event.code),
        })
        .collect()
}

#[test]
fn a_session_is_inform_empty_post_and_the_end() {
    let mut device = Device::new();
    assert_eq!(device.event(), None, "nothing to say, no session");
    device.cpe.raise(Event::new(EventCode::Boot));
    let (events, inform) = device.begin();
    assert_eq!(codes(&events), ["1 BOOT"]);
    assert_eq!((inform.max_envelopes, inform.retry_count), (1, 0));
    assert_eq!(inform.device, content().device);
    assert_eq!(inform.values, content().values);
    device.reply(Some("1"), InformResponse { max_envelopes: 1 });
    assert_eq!(
        device.event(),
        Some(CpeEvent::Informed {
            version: Version::V1_3,
            delivered: events
        })
    );
    assert_eq!(device.post(), None, "an empty POST");
    device.reply_empty();
    assert_eq!(device.event(), Some(CpeEvent::Ended));
    assert!(device.closes());
    assert_eq!(device.event(), None);
    assert_eq!(device.cpe.poll_timeout(), None);
}

#[test]
fn requests_of_the_acs_are_answered_one_by_one_with_their_ids() {
    let mut device = Device::informed(EventCode::Periodic);
    assert_eq!(device.post(), None);
    for (number, request) in samples::to_cpe().into_iter().enumerate() {
        if request.method() == Some(Method::GetRpcMethods) {
            continue;
        }
        let id = format!(" id {number}");
        device.reply(Some(&id), request.clone());
        assert_eq!(device.event(), Some(CpeEvent::Request(request.clone())));
        assert_eq!(
            device.cpe.poll_transmit(),
            None,
            "the application is to act"
        );
        device
            .cpe
            .respond(device.now, samples::response(&request))
            .unwrap();
        let answer = device.post().unwrap();
        assert_eq!(answer.header.id.as_deref(), Some(id.as_str()));
        assert_eq!(answer.message, samples::response(&request));
    }
    device.reply_empty();
    assert_eq!(device.event(), Some(CpeEvent::Ended));
}

#[test]
fn a_response_to_another_method_or_to_nothing_is_not_sent() {
    let mut device = Device::informed(EventCode::Boot);
    assert_eq!(device.post(), None);
    assert_eq!(
        device.cpe.respond(device.now, RebootResponse {}),
        Err(NotNow)
    );
    device.reply(Some("1"), Reboot::default());
    assert!(device.event().is_some());
    assert_eq!(
        device.cpe.respond(device.now, FactoryResetResponse {}),
        Err(NotNow)
    );
    assert_eq!(
        device.cpe.respond(device.now, Reboot::default()),
        Err(NotNow)
    );
    assert_eq!(device.cpe.respond(device.now, RebootResponse {}), Ok(()));
    assert_eq!(
        device.cpe.respond(device.now, RebootResponse {}),
        Err(NotNow)
    );
    assert_eq!(device.cpe.begin(device.now, content()), Err(NotNow));
}

#[test]
fn get_rpc_methods_is_answered_with_what_the_version_has() {
    let config = Config {
        vendor_methods: vec!["X_EXAMPLE_Do".to_owned()],
        ..Config::default()
    };
    let mut device = Device::with(config, Saved::default());
    device.namespace = Namespace::V1_0;
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    device.reply(None, InformResponse::default());
    assert_eq!(device.post(), None);
    device.reply(Some("7"), GetRPCMethods {});
    let answer = device.post().unwrap();
    assert_eq!(answer.namespace, Some(Namespace::V1_0));
    let Message::GetRPCMethodsResponse(response) = answer.message else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = response.methods.iter().map(String::as_str).collect();
    let required = [
        "GetRPCMethods",
        "SetParameterValues",
        "GetParameterValues",
        "GetParameterNames",
        "SetParameterAttributes",
        "GetParameterAttributes",
        "AddObject",
        "DeleteObject",
        "Reboot",
        "Download",
        "X_EXAMPLE_Do",
    ];
    assert_eq!(names, required);
}

#[test]
fn a_method_that_is_not_there_is_answered_with_9000() {
    let mut device = Device::with(Config::default(), Saved::default());
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    device.reply(None, InformResponse::default());
    assert_eq!(device.post(), None);
    let inform: Message = samples::inform().into();
    for request in [Upload::default().into(), inform] {
        device.reply(Some("7"), request);
        let answer = device.post().unwrap();
        assert_eq!(answer.header.id.as_deref(), Some("7"));
        assert_eq!(
            answer.message,
            Fault::new(FaultCode::METHOD_NOT_SUPPORTED).into()
        );
    }
    let unknown = br#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header><ID>8</ID></s:Header><s:Body><X_EXAMPLE_Do/></s:Body></s:Envelope>"#;
    device
        .cpe
        .handle_reply(device.now, Reply::Envelope(unknown));
    let answer = device.post().unwrap();
    assert_eq!(answer.header.id.as_deref(), Some("8"));
    let Message::Fault(fault) = answer.message else {
        panic!("{answer:?}");
    };
    assert_eq!(fault.code, FaultCode::METHOD_NOT_SUPPORTED);
}

#[test]
fn a_request_without_its_arguments_is_answered_with_9003_and_garbage_ends_the_session() {
    let mut device = Device::informed(EventCode::Boot);
    assert_eq!(device.post(), None);
    let wrong = br#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><GetParameterValues/></s:Body></s:Envelope>"#;
    device.cpe.handle_reply(device.now, Reply::Envelope(wrong));
    let Some(Message::Fault(fault)) = device.post().map(|answer| answer.message) else {
        panic!("no fault");
    };
    assert_eq!(fault.code, FaultCode::INVALID_ARGUMENTS);
    device
        .cpe
        .handle_reply(device.now, Reply::Envelope(b"<html>"));
    assert!(matches!(device.failed().0, Failure::Malformed(_)));
    assert!(device.closes());
}

#[test]
fn our_requests_go_before_those_of_the_acs_and_bring_their_events() {
    let mut device = Device::new();
    let id = device
        .cpe
        .queue(transfer("a"), Some(Method::Download))
        .unwrap();
    let other = device
        .cpe
        .queue(transfer("b"), Some(Method::Upload))
        .unwrap();
    let (events, _) = device.begin();
    assert_eq!(
        codes(&events),
        ["7 TRANSFER COMPLETE", "M Download a", "M Upload b"]
    );
    device.reply(Some("1"), InformResponse::default());
    let Some(CpeEvent::Informed { delivered, .. }) = device.event() else {
        panic!("not informed");
    };
    assert_eq!(delivered, [], "delivered is what its own response confirms");
    let post = device.post().unwrap();
    assert_eq!(
        (post.header.id.as_deref(), post.message),
        (Some("2"), transfer("a"))
    );
    device.reply(Some("2"), TransferCompleteResponse {});
    let response: Message = TransferCompleteResponse {}.into();
    assert_eq!(
        device.event(),
        Some(CpeEvent::Answered {
            id,
            response: response.clone()
        })
    );
    assert_eq!(device.post().unwrap().message, transfer("b"));
    device.reply(None, TransferCompleteResponse {});
    assert_eq!(
        device.event(),
        Some(CpeEvent::Answered {
            id: other,
            response
        })
    );
    assert_eq!(device.post(), None);
    device.reply_empty();
    assert_eq!(device.event(), Some(CpeEvent::Ended));
    assert_eq!(device.event(), None, "nothing is left to tell");
}

#[test]
fn each_request_brings_the_events_of_its_kind() {
    let kinds = [
        "7 TRANSFER COMPLETE,M Download upgrade",
        "10 AUTONOMOUS TRANSFER COMPLETE",
        "11 DU STATE CHANGE COMPLETE,M ChangeDUState units",
        "12 AUTONOMOUS DU STATE CHANGE COMPLETE",
        "9 REQUEST DOWNLOAD",
        "5 KICKED",
    ];
    for (request, kind) in samples::to_acs().into_iter().skip(1).zip(kinds) {
        let mut device = Device::new();
        let cause = match request.method() {
            Some(Method::TransferComplete) => Some(Method::Download),
            Some(Method::DuStateChangeComplete) => Some(Method::ChangeDuState),
            _ => None,
        };
        device.cpe.queue(request.clone(), cause).unwrap();
        let (events, _) = device.begin();
        assert_eq!(codes(&events).join(","), kind);
        device.reply(None, InformResponse::default());
        assert_eq!(device.post().unwrap().message, request);
        device.lose();
        while device.event().is_some() {}
        assert!(device.closes());
        device.pass(seconds(10));
        let (events, inform) = device.begin();
        assert_eq!(codes(&events).join(","), kind, "until it is answered");
        assert_eq!(inform.retry_count, 1);
        device.reply(None, InformResponse::default());
        assert_eq!(device.post().unwrap().message, request);
        device.reply(None, samples::response(&request));
        assert_eq!(device.post(), None);
        device.reply_empty();
        assert_eq!(device.cpe.saved(device.now), Saved::default());
    }
}

#[test]
fn held_requests_wait_until_the_acs_has_nothing_more() {
    let mut device = Device::new();
    device.cpe.queue(transfer("a"), None).unwrap();
    device.begin();
    let held = Header {
        hold_requests: true,
        ..Header::default()
    };
    device.reply_with(held.clone(), InformResponse::default());
    assert_eq!(device.post(), None, "held");
    device.reply_with(held, Reboot::default());
    while device.event().is_some() {}
    device.cpe.respond(device.now, RebootResponse {}).unwrap();
    assert!(device.post().is_some());
    device.reply_empty();
    assert_eq!(
        device.post().unwrap().message,
        transfer("a"),
        "an empty answer lets go"
    );
    device.reply(None, TransferCompleteResponse {});
    assert_eq!(device.post(), None);
    device.reply_empty();
    while let Some(event) = device.event() {
        assert!(!matches!(event, CpeEvent::Failed { .. }));
    }
    assert!(device.closes());
}

#[test]
fn what_is_queued_during_a_session_goes_along_with_it() {
    let mut device = Device::informed(EventCode::Boot);
    assert_eq!(device.post(), None);
    device.reply(None, Download::default());
    device
        .cpe
        .queue(transfer("a"), Some(Method::Download))
        .unwrap();
    device
        .cpe
        .respond(device.now, DownloadResponse::default())
        .unwrap();
    assert!(device.post().is_some());
    device.reply_empty();
    assert_eq!(device.post().unwrap().message, transfer("a"));
    device.reply(None, TransferCompleteResponse {});
    assert_eq!(device.post(), None);
    device.reply_empty();
    let all: Vec<_> = std::iter::from_fn(|| device.event()).collect();
    assert_eq!(
        all.last(),
        Some(&CpeEvent::Ended),
        "and wants no other session"
    );
}

#[test]
fn the_acs_may_ask_for_the_same_again_but_not_for_ever() {
    let again = || Fault::new(FaultCode::ACS_RETRY_REQUEST);
    let mut device = Device::new();
    device.cpe.queue(transfer("a"), None).unwrap();
    device.begin();
    device.reply(Some("1"), again());
    let post = device.post().unwrap();
    assert!(matches!(post.message, Message::Inform(_)));
    assert_eq!(post.header.id.as_deref(), Some("2"));
    device.reply(Some("2"), InformResponse::default());
    for _ in 0..4 {
        assert_eq!(device.post().unwrap().message, transfer("a"));
        device.reply(None, again());
    }
    assert!(matches!(device.event(), Some(CpeEvent::Informed { .. })));
    let refused = device.event();
    assert!(
        matches!(&refused, Some(CpeEvent::Refused { fault, .. }) if *fault == again()),
        "{refused:?}"
    );
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    for _ in 0..3 {
        device.reply(None, again());
        assert!(device.post().is_some());
    }
    device.reply(None, again());
    assert_eq!(
        device.failed().0,
        Failure::Refused(FaultCode::ACS_RETRY_REQUEST)
    );
}

#[test]
fn a_request_that_the_acs_refuses_is_not_sent_again() {
    let mut device = Device::new();
    let id = device.cpe.queue(transfer("a"), None).unwrap();
    device.begin();
    device.reply(None, InformResponse::default());
    assert!(device.post().is_some());
    let fault = Fault::new(FaultCode::ACS_METHOD_NOT_SUPPORTED);
    device.reply(None, fault.clone());
    assert!(matches!(device.event(), Some(CpeEvent::Informed { .. })));
    assert_eq!(device.event(), Some(CpeEvent::Refused { id, fault }));
    assert_eq!(device.post(), None);
    device.reply_empty();
    assert_eq!(device.event(), Some(CpeEvent::Ended));
    assert_eq!(device.cpe.saved(device.now).requests, []);
}

#[test]
fn an_inform_that_the_acs_refuses_fails_the_session() {
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    device.reply(Some("1"), Fault::new(FaultCode::ACS_REQUEST_DENIED));
    assert_eq!(
        device.failed().0,
        Failure::Refused(FaultCode::ACS_REQUEST_DENIED)
    );
    assert!(device.closes());
}

#[test]
fn every_way_to_fail_is_told_and_tried_again() {
    let http = |failure| (Reply::Failed(failure), Failure::Http(failure));
    let ways = [
        http(HttpFailure::Connection),
        http(HttpFailure::Unauthorized),
        http(HttpFailure::Redirects),
        http(HttpFailure::Status(500)),
        (Reply::Unavailable(None), Failure::Unavailable),
        (
            Reply::Empty,
            Failure::OutOfOrder("nothing", "InformResponse"),
        ),
    ];
    for (reply, failure) in ways {
        let mut device = Device::new();
        device.cpe.raise(Event::new(EventCode::Bootstrap));
        device.begin();
        device.cpe.handle_reply(device.now, reply);
        let (reason, wait) = device.failed();
        assert_eq!(reason, failure);
        assert!((seconds(5)..=seconds(10)).contains(&wait));
        assert!(device.closes());
        assert_eq!(device.cpe.poll_timeout(), Some(device.now + wait));
        device.pass(wait);
        assert_eq!(codes(&device.begin().0), ["0 BOOTSTRAP"]);
    }
}

#[test]
fn an_answer_that_is_not_due_fails_the_session() {
    let inform_with = |header: Header, message: Message| {
        let mut device = Device::new();
        device.cpe.raise(Event::new(EventCode::Boot));
        device.begin();
        device.reply_with(header, message);
        device.failed().0
    };
    let reboot: Message = Reboot::default().into();
    assert_eq!(
        inform_with(Header::default(), reboot.clone()),
        Failure::OutOfOrder("Reboot", "InformResponse")
    );
    let response = InformResponse::default();
    assert_eq!(
        inform_with(Header::with_id("2"), response.clone().into()),
        Failure::WrongId
    );
    let newer = Header {
        use_version: Some(Version::V1_4),
        ..Header::default()
    };
    let config = Config {
        version: Version::V1_2,
        ..Config::default()
    };
    let mut device = Device::with(config, Saved::default());
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    device.reply_with(newer, response);
    assert!(
        matches!(
            device.event(),
            Some(CpeEvent::Informed {
                version: Version::V1_2,
                ..
            })
        ),
        "not offered, not looked at"
    );
    assert_eq!(device.post(), None);
    device.reply(None, RebootResponse {});
    assert_eq!(
        device.failed().0,
        Failure::OutOfOrder("RebootResponse", "a request or the end")
    );
    let mut device = Device::new();
    device.cpe.queue(transfer("a"), None).unwrap();
    device.begin();
    device.reply(None, InformResponse::default());
    assert!(device.post().is_some());
    device.event();
    device.reply(None, reboot);
    assert_eq!(
        device.failed().0,
        Failure::OutOfOrder("Reboot", "TransferComplete")
    );
    assert_eq!(
        device.cpe.saved(device.now).requests.len(),
        1,
        "still to be told"
    );
}

#[test]
fn an_acs_that_is_silent_is_left_after_the_timeout() {
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    assert_eq!(device.cpe.poll_timeout(), Some(device.now + seconds(60)));
    device.pass(seconds(59));
    assert_eq!(device.event(), None);
    device.pass(seconds(1));
    assert_eq!(device.failed().0, Failure::TimedOut);
    assert!(device.closes());
    device.reply(None, InformResponse::default());
    assert_eq!(device.event(), None, "what comes too late is not heard");
}

#[test]
fn an_acs_without_end_is_left() {
    let config = Config {
        most_exchanges: 5,
        ..cpe_config()
    };
    let mut device = Device::with(config, Saved::default());
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    device.reply(None, InformResponse::default());
    device.event();
    for _ in 0..4 {
        device.cpe.poll_transmit();
        device.reply(None, GetRPCMethods {});
    }
    assert_eq!(device.event(), None);
    device.reply(None, GetRPCMethods {});
    assert_eq!(device.failed().0, Failure::TooLong);
}

#[test]
fn the_waits_between_retries_grow_and_the_count_is_told() {
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    for retry in 0..14_u32 {
        let (_, inform) = device.begin();
        assert_eq!(inform.retry_count, retry);
        device.lose();
        let (_, wait) = device.failed();
        let (shortest, longest) = RetryPolicy::default().range(retry + 1);
        assert!((shortest..=longest).contains(&wait), "{retry}: {wait:?}");
        assert!(device.closes());
        device.pass(wait - seconds(1));
        assert_eq!(device.event(), None);
        device.pass(seconds(1));
    }
    device.begin();
    device.reply(None, InformResponse::default());
    device.post();
    device.reply_empty();
    assert_eq!(device.cpe.retry_count(), 0);
    device.event();
    assert_eq!(device.event(), Some(CpeEvent::Ended));
    device.cpe.raise(Event::new(EventCode::Periodic));
    assert!(device.closes());
    assert_eq!(device.begin().1.retry_count, 0);
    device.lose();
    assert!(device.failed().1 <= seconds(10), "the waits begin anew");
}

#[test]
fn retry_after_is_honoured_within_reason() {
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    device
        .cpe
        .handle_reply(device.now, Reply::Unavailable(Some(seconds(77))));
    assert_eq!(device.failed(), (Failure::Unavailable, seconds(77)));
    device.pass(seconds(77));
    device.closes();
    device.begin();
    device
        .cpe
        .handle_reply(device.now, Reply::Unavailable(Some(seconds(u64::MAX))));
    assert_eq!(device.failed().1, seconds(5120));
}

#[test]
fn a_new_event_does_not_wait_for_the_retry() {
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    device.lose();
    device.failed();
    device.closes();
    device.cpe.note(Event::new(EventCode::ValueChange));
    assert_eq!(device.event(), None, "a passive one does");
    device.cpe.raise(Event::new(EventCode::ConnectionRequest));
    let (events, inform) = device.begin();
    assert_eq!(
        codes(&events),
        ["1 BOOT", "4 VALUE CHANGE", "6 CONNECTION REQUEST"]
    );
    assert_eq!(inform.retry_count, 1);
}

#[test]
fn what_happens_during_a_session_is_told_by_the_next_which_follows_at_once() {
    let mut device = Device::informed(EventCode::ValueChange);
    assert_eq!(device.post(), None);
    device.cpe.raise(Event::new(EventCode::ConnectionRequest));
    device.cpe.raise(Event::new(EventCode::ConnectionRequest));
    device.cpe.note(Event::new(EventCode::ValueChange));
    assert_eq!(device.event(), None, "at most one session");
    device.reply_empty();
    assert_eq!(device.event(), Some(CpeEvent::Ended));
    assert!(device.closes());
    assert_eq!(
        codes(&device.begin().0),
        ["4 VALUE CHANGE", "6 CONNECTION REQUEST"]
    );
}

#[test]
fn what_happens_again_while_it_is_told_is_told_again() {
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::ValueChange));
    device.begin();
    device.cpe.note(Event::new(EventCode::ValueChange));
    device.lose();
    device.failed();
    assert!(device.closes());
    device.pass(seconds(10));
    assert_eq!(
        codes(&device.begin().0),
        ["4 VALUE CHANGE"],
        "once, after a failure"
    );
    device.cpe.raise(Event::new(EventCode::ValueChange));
    device.reply(None, InformResponse::default());
    device.post();
    device.reply_empty();
    device.event();
    assert_eq!(device.event(), Some(CpeEvent::Ended));
    assert!(device.closes());
    assert_eq!(codes(&device.begin().0), ["4 VALUE CHANGE"]);
}

#[test]
fn a_connection_request_is_not_told_twice_and_other_events_are() {
    let mut device = Device::new();
    for code in EventCode::NUMBERED {
        assert_eq!(
            code.keep() == Keep::Once,
            code == EventCode::ConnectionRequest
        );
    }
    device.cpe.raise(Event::new(EventCode::ConnectionRequest));
    device.cpe.raise(Event::new(EventCode::Periodic));
    device.begin();
    device.lose();
    device.failed();
    device.closes();
    device.pass(seconds(10));
    assert_eq!(codes(&device.begin().0), ["2 PERIODIC"]);
}

#[test]
fn what_outlives_a_restart_is_told_after_it_and_the_rest_is_not() {
    let mut device = Device::new();
    let before = device.cpe.changes();
    for code in [
        EventCode::Boot,
        EventCode::ValueChange,
        EventCode::Periodic,
        EventCode::DiagnosticsComplete,
        EventCode::ConnectionRequest,
        EventCode::Scheduled,
    ] {
        device.cpe.note(Event::new(code));
    }
    device.cpe.raise(Event::of(Method::Reboot, "k"));
    device
        .cpe
        .queue(transfer("a"), Some(Method::Download))
        .unwrap();
    device
        .cpe
        .schedule(device.now, seconds(100), "s".to_owned())
        .unwrap();
    device.begin();
    device.lose();
    device.now += seconds(40);
    let saved = device.cpe.saved(device.now);
    assert_ne!(device.cpe.changes(), before);
    assert_eq!(
        codes(&saved.events),
        ["2 PERIODIC", "3 SCHEDULED", "M Reboot k"]
    );
    let waiting = Waiting {
        message: transfer("a"),
        cause: Some(Method::Download),
    };
    assert_eq!(saved.requests, [waiting]);
    assert_eq!(saved.scheduled, [(seconds(60), "s".to_owned())]);
    assert_eq!(saved.retry_count, 1);
    let mut device = Device::with(cpe_config(), saved);
    device.cpe.raise(Event::new(EventCode::Boot));
    let (events, inform) = device.begin();
    assert_eq!(
        codes(&events),
        [
            "1 BOOT",
            "2 PERIODIC",
            "3 SCHEDULED",
            "7 TRANSFER COMPLETE",
            "M Reboot k",
            "M Download a"
        ]
    );
    assert_eq!(inform.retry_count, 1, "the count goes on");
    device.lose();
    let (_, wait) = device.failed();
    assert!(wait <= seconds(10), "the waits begin anew");
    device.pass(seconds(60));
    assert!(codes(&device.cpe.saved(device.now).events).contains(&"M ScheduleInform s".to_owned()));
}

#[test]
fn restored_events_begin_a_session_by_themselves() {
    let saved = Saved {
        events: vec![Event::new(EventCode::Bootstrap)],
        ..Saved::default()
    };
    let mut device = Device::with(cpe_config(), saved);
    assert_eq!(codes(&device.begin().0), ["0 BOOTSTRAP"]);
}

#[test]
fn bootstrap_discards_all_but_boot() {
    let mut device = Device::new();
    device.cpe.note(Event::new(EventCode::Boot));
    device.cpe.note(Event::new(EventCode::Periodic));
    device.cpe.note(Event::of(Method::Reboot, "k"));
    device
        .cpe
        .queue(transfer("a"), Some(Method::Download))
        .unwrap();
    device.event();
    device.cpe.raise(Event::new(EventCode::Bootstrap));
    device.cpe.begin(device.now, content()).unwrap();
    let Some(Message::Inform(inform)) = device.post().map(|post| post.message) else {
        panic!("no Inform");
    };
    assert_eq!(codes(&inform.events), ["0 BOOTSTRAP", "1 BOOT"]);
}

#[test]
fn cumulative_events_stand_there_each_and_are_bounded() {
    let config = Config {
        most_events: 2,
        most_requests: 1,
        most_scheduled: 1,
        ..Config::default()
    };
    let mut device = Device::with(config, Saved::default());
    for key in ["a", "b", "b", "c"] {
        device.cpe.note(Event::of(Method::ScheduleInform, key));
    }
    device.cpe.raise(Event::new(EventCode::Scheduled));
    device.cpe.raise(Event::new(EventCode::Scheduled));
    assert_eq!(
        codes(&device.begin().0),
        ["3 SCHEDULED", "M ScheduleInform b", "M ScheduleInform c"]
    );
    assert!(device.cpe.queue(transfer("a"), None).is_ok());
    assert_eq!(device.cpe.queue(transfer("b"), None), Err(QueueError::Full));
    assert_eq!(
        device.cpe.schedule(device.now, seconds(1), String::new()),
        Ok(())
    );
    assert_eq!(
        device.cpe.schedule(device.now, seconds(1), String::new()),
        Err(QueueError::Full)
    );
    for wrong in [
        samples::inform().into(),
        Reboot::default().into(),
        TransferCompleteResponse {}.into(),
    ] {
        assert_eq!(device.cpe.queue(wrong, None), Err(QueueError::NotARequest));
    }
}

#[test]
fn periodic_and_scheduled_informs_come_when_they_are_due() {
    let mut device = Device::new();
    device
        .cpe
        .set_periodic(Some((device.now + seconds(30), seconds(60))));
    device
        .cpe
        .schedule(device.now, seconds(20), "s".to_owned())
        .unwrap();
    assert_eq!(device.cpe.poll_timeout(), Some(device.now + seconds(20)));
    device.pass(seconds(20));
    assert_eq!(
        codes(&device.begin().0),
        ["3 SCHEDULED", "M ScheduleInform s"]
    );
    device.pass(seconds(10));
    device.reply(None, InformResponse::default());
    device.post();
    device.reply_empty();
    device.event();
    device.event();
    assert!(device.closes());
    assert_eq!(
        codes(&device.begin().0),
        ["2 PERIODIC"],
        "due during the session"
    );
    device.reply(None, InformResponse::default());
    device.post();
    device.reply_empty();
    while device.event().is_some() {}
    assert!(device.closes());
    assert_eq!(device.cpe.poll_timeout(), Some(device.now + seconds(60)));
    // What was slept through comes once, and the rhythm stays.
    device.pass(seconds(60 * 5 + 7));
    assert_eq!(codes(&device.begin().0), ["2 PERIODIC"]);
    device.lose();
    while device.event().is_some() {}
    device.cpe.set_periodic(None);
    device.pass(seconds(10));
    device.closes();
    device.begin();
}

#[test]
fn versions_are_negotiated() {
    let cases = [
        (
            Version::V1_4,
            Namespace::V1_2,
            Some(Version::V1_4),
            Version::V1_4,
        ),
        (
            Version::V1_4,
            Namespace::V1_2,
            Some(Version::V1_0),
            Version::V1_0,
        ),
        (Version::V1_4, Namespace::V1_2, None, Version::V1_3),
        (Version::V1_4, Namespace::V1_1, None, Version::V1_1),
        (Version::V1_4, Namespace::V1_0, None, Version::V1_0),
        (Version::V1_2, Namespace::V1_2, None, Version::V1_2),
        (Version::V1_0, Namespace::V1_2, None, Version::V1_0),
    ];
    for (own, namespace, chosen, version) in cases {
        let config = Config {
            version: own,
            session_timeout: Some(40),
            ..Config::default()
        };
        let mut device = Device::with(config, Saved::default());
        device.cpe.raise(Event::new(EventCode::Boot));
        device.event();
        device
            .cpe
            .begin(device.now, InformContent::default())
            .unwrap();
        let post = device.post().unwrap();
        assert_eq!(post.namespace, Some(own.namespace()));
        let offered = (own == Version::V1_4).then(|| Version::ALL.to_vec());
        assert_eq!(post.header.supported_versions, offered);
        assert_eq!(post.header.session_timeout.is_some(), own >= Version::V1_3);
        device.namespace = namespace;
        let header = Header {
            use_version: chosen,
            ..Header::default()
        };
        device.reply_with(header, InformResponse::default());
        let event = device.event();
        assert!(
            matches!(event, Some(CpeEvent::Informed { version: spoken, .. }) if spoken == version),
            "{event:?}"
        );
    }
}

#[test]
fn a_version_that_we_do_not_know_is_not_spoken() {
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    let header = Header {
        use_version: Some(Version::V1_4),
        ..Header::default()
    };
    let chosen = Envelope::new(Namespace::V1_2, header, InformResponse::default());
    let chosen = String::from_utf8(chosen.encode()).unwrap();
    let newer = chosen.replace(">1.4<", ">1.9<");
    assert_ne!(newer, chosen);
    device
        .cpe
        .handle_reply(device.now, Reply::Envelope(newer.as_bytes()));
    assert_eq!(device.failed().0, Failure::Version);
}

#[test]
fn a_method_that_the_version_lacks_waits_for_a_session_that_has_it() {
    let mut device = Device::new();
    let message: Message = AutonomousTransferComplete::default().into();
    device.cpe.queue(message.clone(), None).unwrap();
    device.begin();
    device.namespace = Namespace::V1_0;
    device.reply(None, InformResponse::default());
    assert_eq!(device.post(), None);
    device.reply_empty();
    device.event();
    assert_eq!(device.event(), Some(CpeEvent::Ended));
    assert!(device.closes());
    assert_eq!(device.event(), None, "not at once: it would not end");
    device.namespace = Namespace::V1_2;
    device.cpe.raise(Event::new(EventCode::Periodic));
    device.begin();
    device.reply(None, InformResponse::default());
    assert_eq!(device.post().unwrap().message, message);
}

#[test]
fn every_second_retry_speaks_1_0_to_an_acs_that_may_know_no_more() {
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    let mut namespaces = Vec::new();
    for _ in 0..4 {
        device.event();
        device.cpe.begin(device.now, content()).unwrap();
        namespaces.push(device.post().unwrap().namespace.unwrap());
        device
            .cpe
            .handle_reply(device.now, Reply::Failed(HttpFailure::Status(500)));
        let (_, wait) = device.failed();
        assert!(device.closes());
        device.pass(wait);
    }
    assert_eq!(
        namespaces,
        [
            Namespace::V1_2,
            Namespace::V1_0,
            Namespace::V1_2,
            Namespace::V1_0
        ]
    );
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    for _ in 0..2 {
        device.event();
        device.cpe.begin(device.now, content()).unwrap();
        assert_eq!(device.post().unwrap().namespace, Some(Namespace::V1_2));
        device.lose();
        let (_, wait) = device.failed();
        device.closes();
        device.pass(wait);
    }
}

#[test]
fn a_session_given_up_is_tried_again() {
    let mut device = Device::new();
    device.cpe.raise(Event::new(EventCode::Boot));
    device.begin();
    assert!(device.cpe.is_in_session());
    device.cpe.abort(device.now);
    assert_eq!(device.failed().0, Failure::Aborted);
    assert_eq!(device.cpe.poll_transmit(), Some(Transmit::Close));
    assert!(!device.cpe.is_in_session());
    device.cpe.abort(device.now);
    assert_eq!(device.event(), None);
}
