//! TD_COAP_OBS_01 to 12: observing resources (RFC 7641). The list has no OBS_03 any more; what it was about is tested by today's rule.

use std::time::Duration;

use homefleet_coap::{Code, Endpoint, Request, RequestId, Type};

use super::lab::{Lab, Packet, format};
use crate::plugtest::Plugtest;
use crate::support::Side::{Client, Server};

/// How often `/obs` changes.
const PERIOD: Duration = Duration::from_secs(5);

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.app.period = Some(PERIOD);
    lab
}

/// Registers for `/obs` with the checks that each description begins with; the request, the response and the request's ID.
fn register(lab: &mut Lab) -> (Packet, Packet, RequestId) {
    let id = lab.request(Request::get("obs").observe());
    lab.run_for(Duration::from_secs(1));
    let [request, response] = lab.piggybacked(Code::GET, Code::CONTENT);
    assert_eq!(request.options.observe(), Some(0));
    assert!(response.options.observe().is_some());
    response.has_format_and_payload();
    assert_eq!(lab.displayed().len(), 1);
    (request, response, id)
}

/// Checks that `packets` are Confirmable notifications that follow `last`, each with its ACK; the last of them.
fn check_notifications(packets: &[Packet], last: &Packet, count: usize) -> Packet {
    assert_eq!(packets.len(), 2 * count, "{packets:#?}");
    let mut last = last.clone();
    for pair in packets.chunks(2) {
        let (notification, done) = (&pair[0], &pair[1]);
        notification
            .is(Server, Type::Confirmable, Code::CONTENT)
            .has_format_and_payload();
        assert_eq!(format(notification), format(&last));
        assert_eq!(notification.token, last.token);
        assert!(notification.options.observe() > last.options.observe());
        done.is(Client, Type::Acknowledgement, Code::EMPTY)
            .is_empty_message(notification.id);
        last = notification.clone();
    }
    last
}

/// Lets `/obs` change `count` times, each time with notification, ACK and a new state displayed; the last notification.
fn notifications(lab: &mut Lab, last: &Packet, count: usize) -> Packet {
    lab.run_for(PERIOD * u32::try_from(count).unwrap());
    let packets = lab.wire();
    let last = check_notifications(&packets, last, count);
    let shown = lab.displayed();
    assert_eq!(shown.len(), count);
    assert_eq!(shown.last().unwrap().payload, last.payload);
    last
}

/// Nothing is sent any more, and nothing displayed, for several periods.
fn silence(lab: &mut Lab) {
    lab.displayed();
    lab.run_for(4 * PERIOD);
    assert!(lab.wire().is_empty());
    assert!(lab.displayed().is_empty());
    assert_eq!(lab.app.observers(), 0);
}

/// Observation with CON notifications: same token and format, growing Observe, each acknowledged and displayed.
#[test]
fn td_coap_obs_01() {
    let mut lab = lab();
    let (_, response, _) = register(&mut lab);
    notifications(&mut lab, &response, 4);
}

/// Observation with NON request and notifications: same token and format, growing Observe.
#[test]
fn td_coap_obs_02() {
    let mut lab = Lab::with(|_, server| server.notify_con_every = 20);
    lab.app.period = Some(PERIOD);
    lab.request(Request::get("obs-non").observe().non_confirmable());
    lab.run_for(4 * PERIOD + PERIOD / 2);
    let packets = lab.wire();
    assert_eq!(packets.len(), 6);
    let request = &packets[0];
    request.is(Client, Type::NonConfirmable, Code::GET);
    assert_eq!(request.options.observe(), Some(0));
    for notification in &packets[1..] {
        notification
            .is(Server, Type::NonConfirmable, Code::CONTENT)
            .has_format_and_payload();
        assert_eq!(notification.token, request.token);
        assert_eq!(format(notification), format(&packets[1]));
    }
    let observed: Vec<_> = packets[1..].iter().map(|p| p.options.observe()).collect();
    assert!(observed.windows(2).all(|two| two[0] < two[1]));
    assert_eq!(lab.displayed().len(), 5);
}

/// Stopping an observation (in the list until CoAP#2, then without Observe; RFC 7641 §3.6 now): the client forgets it, rejects the next
/// notification with RST, and none follows.
#[test]
fn td_coap_obs_03() {
    let mut lab = lab();
    let (_, response, id) = register(&mut lab);
    let last = notifications(&mut lab, &response, 1);
    lab.client.cancel(lab.now, id);
    lab.run_for(PERIOD);
    let [notification, reset] = lab.packets();
    notification.is(Server, Type::Confirmable, Code::CONTENT);
    assert_eq!(notification.token, last.token);
    reset
        .is(Client, Type::Reset, Code::EMPTY)
        .is_empty_message(notification.id);
    silence(&mut lab);
}

/// The server forgets the observation: after Max-Age the client registers again with the same token, and is served again, whatever the
/// new sequence numbers are.
#[test]
fn td_coap_obs_04() {
    let mut lab = lab();
    let (request, response, _) = register(&mut lab);
    let last = notifications(&mut lab, &response, 3);
    // A restart: endpoint and observers are gone.
    lab.server = Endpoint::new(Plugtest::config(), [9; 32]);
    lab.app.forget_observers();
    // Max-Age is 60 s, counted from the last notification (RFC 7641 §3.3.1).
    lab.run_for(Duration::from_secs(60));
    assert!(lab.wire().is_empty());
    assert!(lab.displayed().is_empty());
    lab.run_for(Duration::from_secs(20));
    let packets = lab.wire();
    let (again, answer) = (&packets[0], &packets[1]);
    again.is(Client, Type::Confirmable, Code::GET);
    assert_eq!(again.options.observe(), Some(0));
    assert_eq!(again.token, request.token);
    assert!(again.at - last.at > Duration::from_secs(60));
    answer
        .is(Server, Type::Acknowledgement, Code::CONTENT)
        .same_id_and_token(again);
    assert_eq!(format(answer), format(&response));
    // Less than before is taken all the same.
    assert!(answer.options.observe() < last.options.observe());
    let rest = packets[2..].to_vec();
    let last = check_notifications(&rest, answer, rest.len() / 2);
    let shown = lab.displayed();
    assert_eq!(shown.len(), 1 + rest.len() / 2);
    notifications(&mut lab, &last, 2);
}

/// The client is switched off: notifications are repeated with a newer state and Observe value, up to a final time-out, and then stop.
#[test]
fn td_coap_obs_05() {
    let mut lab = lab();
    let (_, response, _) = register(&mut lab);
    let last = notifications(&mut lab, &response, 2);
    lab.client_off = true;
    lab.run_for(Duration::from_secs(200));
    let packets = lab.wire();
    // One transmission and MAX_RETRANSMIT repetitions, each with what /obs is by then.
    assert_eq!(packets.len(), 5, "{packets:#?}");
    let mut before = last;
    for notification in &packets {
        notification.is(Server, Type::Confirmable, Code::CONTENT);
        assert_eq!(notification.token, before.token);
        if notification.payload == before.payload {
            assert_eq!(notification.bytes, before.bytes);
        } else {
            assert!(notification.options.observe() > before.options.observe());
        }
        before = notification.clone();
    }
    assert_ne!(packets[0].payload, packets[4].payload);
    silence(&mut lab);
}

/// The client is restarted: it rejects the next notification with RST, and none follows.
#[test]
fn td_coap_obs_06() {
    let mut lab = lab();
    let (_, response, _) = register(&mut lab);
    let last = notifications(&mut lab, &response, 2);
    lab.client = Endpoint::new(homefleet_coap::Config::default(), [9; 32]);
    lab.run_for(PERIOD);
    let [notification, reset] = lab.packets();
    notification.is(Server, Type::Confirmable, Code::CONTENT);
    assert_eq!(notification.token, last.token);
    reset
        .is(Client, Type::Reset, Code::EMPTY)
        .is_empty_message(notification.id);
    silence(&mut lab);
}

/// Another message changes `/obs`, after some notifications; what is on the wire then is notification and ACK beside it.
fn change(request: Request) -> (Lab, Packet, Packet, Packet) {
    let mut lab = lab();
    let (_, response, _) = register(&mut lab);
    let last = notifications(&mut lab, &response, 2);
    lab.ask(request);
    lab.run_for(PERIOD / 4);
    let packets = lab.wire();
    assert_eq!(packets.len(), 4, "{packets:#?}");
    let token = last.token;
    let notification = packets.iter().find(|p| p.token == token).unwrap().clone();
    let id = notification.id;
    let done = packets.iter().find(|p| p.code.is_empty()).unwrap().clone();
    done.is(Client, Type::Acknowledgement, Code::EMPTY)
        .is_empty_message(id);
    (lab, last, notification, done)
}

/// `/obs` is deleted: the last notification is a CON 4.04 with the token and without Observe.
#[test]
fn td_coap_obs_07() {
    let (mut lab, _, notification, _) = change(Request::delete("obs"));
    notification.is(Server, Type::Confirmable, Code::NOT_FOUND);
    assert_eq!(notification.options.observe(), None);
    assert_eq!(lab.displayed().last().unwrap().code, Code::NOT_FOUND);
    silence(&mut lab);
}

/// `/obs` changes its Content-Format: the last notification is a CON 4.06 with the token and without Observe.
#[test]
fn td_coap_obs_08() {
    let other = Request::put("obs").content_format(41).payload("<tick/>");
    let (mut lab, _, notification, _) = change(other);
    notification.is(Server, Type::Confirmable, Code::NOT_ACCEPTABLE);
    assert_eq!(notification.options.observe(), None);
    assert_eq!(lab.displayed().last().unwrap().code, Code::NOT_ACCEPTABLE);
    silence(&mut lab);
}

/// `/obs` is written by a client: a CON 2.05 with the new value, the same format and a greater Observe; notifications go on.
#[test]
fn td_coap_obs_09() {
    let new = Request::put("obs").content_format(0).payload("written");
    let (mut lab, last, notification, done) = change(new);
    assert_eq!(notification.payload, b"written");
    let shown = lab.displayed();
    assert_eq!(shown.last().unwrap().payload, b"written");
    let packets = [notification, done];
    let last = check_notifications(&packets, &last, 1);
    notifications(&mut lab, &last, 2);
}

/// A GET without Observe and with another token is answered, and does not end the observation.
#[test]
fn td_coap_obs_10() {
    let mut lab = lab();
    let (request, response, _) = register(&mut lab);
    let last = notifications(&mut lab, &response, 1);
    lab.ask(Request::get("obs"));
    let [plain, answer] = lab.piggybacked(Code::GET, Code::CONTENT);
    assert_ne!(plain.token, request.token);
    assert_eq!(plain.options.observe(), None);
    assert_eq!(answer.options.observe(), None);
    assert_eq!(format(&answer), format(&response));
    notifications(&mut lab, &last, 2);
}

/// Notifications in a lossy context: repeated until acknowledged, and never several on their way at one time.
#[test]
fn td_coap_obs_11() {
    for every in [3, 4, 5] {
        let mut lab = lab();
        let (_, response, _) = register(&mut lab);
        let mut count = 0;
        lab.lose(move |_, _| {
            count += 1;
            count % every == 0
        });
        lab.run_for(40 * PERIOD);
        lab.lose(|_, _| false);
        lab.run_for(2 * PERIOD);
        let packets = lab.wire();
        let mut ids = Vec::new();
        let mut seen = response.options.observe();
        for packet in packets.iter().filter(|p| p.from == Server) {
            packet.is(Server, Type::Confirmable, Code::CONTENT);
            assert_eq!(packet.token, response.token);
            if ids.last() != Some(&packet.id) {
                // A new message: the ones before are not repeated any more.
                assert!(!ids.contains(&packet.id));
                ids.push(packet.id);
                assert!(packet.options.observe() > seen);
            }
            seen = packet.options.observe();
        }
        let repeated = packets.iter().filter(|p| p.from == Server).count() - ids.len();
        assert!(repeated > 0, "some are repeated");
        // Whatever was lost, the client has seen the newest state in the end, and each only once.
        let shown = lab.displayed();
        let obs = lab.app.obs.clone().unwrap();
        assert_eq!(shown.last().unwrap().payload, obs.body);
        assert!(shown.windows(2).all(|two| two[0].payload != two[1].payload));
        assert_eq!(lab.app.observers(), 1);
    }
}

/// A GET with Observe 1 and the token of the observation is answered without Observe, and ends the observation.
#[test]
fn td_coap_obs_12() {
    let mut lab = lab();
    let (request, response, id) = register(&mut lab);
    notifications(&mut lab, &response, 1);
    lab.client.deregister(lab.now, id);
    lab.run_for(PERIOD / 4);
    let [cancel, answer] = lab.piggybacked(Code::GET, Code::CONTENT);
    assert_eq!(cancel.options.observe(), Some(1));
    assert_eq!(cancel.token, request.token);
    assert_eq!(answer.options.observe(), None);
    assert_eq!(format(&answer), format(&response));
    silence(&mut lab);
}
