//! TD_COAP_CORE_18 to 23: Location, Accept, ETag and conditional requests (RFC 7252 §5.10).

use homefleet_coap::{Code, Request, content_format, number};

use super::lab::{Lab, Packet};

/// POST that creates: 2.01 with three Location-Path options, none of which contains a slash.
#[test]
fn td_coap_core_18() {
    let mut lab = Lab::new();
    let shown = lab.ask(Request::post("test").content_format(0).payload("new"));
    let [request, response] = lab.piggybacked(Code::POST, Code::CREATED);
    request.has_format_and_payload();
    response.has(
        number::LOCATION_PATH,
        &[b"location1", b"location2", b"location3"],
    );
    assert_eq!(
        shown.options.location_path(),
        "location1/location2/location3"
    );
}

/// POST that creates: 2.01 with two Location-Query options, none of which contains `?` or `&`.
#[test]
fn td_coap_core_19() {
    let mut lab = Lab::new();
    lab.ask(
        Request::post("location-query")
            .content_format(0)
            .payload("new"),
    );
    let [request, response] = lab.piggybacked(Code::POST, Code::CREATED);
    request.has_format_and_payload();
    response
        .has(number::LOCATION_QUERY, &[b"first=1", b"second=2"])
        .has_format_if_payload();
}

/// GET with Accept: `text/plain` (0) and `application/xml` (41) each bring a response in that format.
#[test]
fn td_coap_core_20() {
    let mut lab = Lab::new();
    let mut last: Option<Packet> = None;
    for (accept, body) in [
        (content_format::TEXT_PLAIN, "plain"),
        (content_format::XML, "<format>xml</format>"),
    ] {
        let shown = lab.ask(Request::get("multi-format").accept(accept));
        let [request, response] = lab.piggybacked(Code::GET, Code::CONTENT);
        assert_eq!(request.options.accept(), Some(accept));
        assert_eq!(response.options.content_format(), Some(accept));
        assert_eq!(shown.payload, body.as_bytes());
        assert!(last.is_none_or(|last| last.id != request.id));
        last = Some(request);
    }
}

/// The server's ETag, after a GET without one.
fn first_get(lab: &mut Lab) -> (Vec<u8>, Vec<u8>) {
    let shown = lab.ask(Request::get("validate"));
    let [request, response] = lab.piggybacked(Code::GET, Code::CONTENT);
    request.has_no(number::ETAG);
    assert_eq!(response.options.all(number::ETAG).count(), 1);
    assert!(!shown.payload.is_empty());
    (shown.options.etag().unwrap().to_vec(), shown.payload)
}

/// GET with ETag: 2.05 with an ETag; asked again with it 2.03 without payload; after a change 2.05 with another ETag and payload.
#[test]
fn td_coap_core_21() {
    let mut lab = Lab::new();
    let (etag, body) = first_get(&mut lab);
    let again = || Request::get("validate").option(number::ETAG, &etag);

    lab.ask(again());
    let [request, response] = lab.piggybacked(Code::GET, Code::VALID);
    request.has(number::ETAG, &[&etag]);
    response.has(number::ETAG, &[&etag]);
    assert!(response.payload.is_empty());

    lab.ask(Request::put("validate").content_format(0).payload("second"));
    lab.wire();
    let shown = lab.ask(again());
    let [request, response] = lab.piggybacked(Code::GET, Code::CONTENT);
    request.has(number::ETAG, &[&etag]);
    assert_ne!(response.options.etag(), Some(etag.as_slice()));
    assert_ne!(shown.payload, body);
}

/// PUT with If-Match: 2.04 while the ETag is that of the resource; 4.12 and no change once somebody else has written it.
#[test]
fn td_coap_core_22() {
    let mut lab = Lab::new();
    let put = |body: &str| Request::put("validate").content_format(0).payload(body);
    let (etag, body) = first_get(&mut lab);

    lab.ask(put("mine").option(number::IF_MATCH, &etag));
    let [request, response] = lab.piggybacked(Code::PUT, Code::CHANGED);
    request.has(number::IF_MATCH, &[&etag]);
    response.has_format_if_payload();
    assert_ne!(request.payload, body);

    let (second, body) = first_get(&mut lab);
    assert_ne!(second, etag);
    assert_eq!(body, b"mine");

    lab.ask(put("somebody else's"));
    let [request, _] = lab.piggybacked(Code::PUT, Code::CHANGED);
    request.has_no(number::IF_MATCH);

    let shown = lab.ask(put("mine again").option(number::IF_MATCH, &second));
    let [request, _] = lab.piggybacked(Code::PUT, Code::PRECONDITION_FAILED);
    request.has(number::IF_MATCH, &[&second]);
    assert_eq!(shown.code, Code::PRECONDITION_FAILED);
    assert_eq!(lab.app.validate.0.body, b"somebody else's");
}

/// PUT with If-None-Match: 2.01 where nothing is; 4.12 and no change where something is.
#[test]
fn td_coap_core_23() {
    let mut lab = Lab::new();
    let put = |body: &str| {
        Request::put("create1")
            .content_format(0)
            .payload(body)
            .option(number::IF_NONE_MATCH, b"")
    };
    for (body, code) in [("one", Code::CREATED), ("two", Code::PRECONDITION_FAILED)] {
        let shown = lab.ask(put(body));
        let [request, _] = lab.piggybacked(Code::PUT, code);
        request.has(number::IF_NONE_MATCH, &[b""]);
        assert_eq!(shown.code, code);
        assert_eq!(lab.app.create1.as_ref().unwrap().body, b"one");
    }
}
