//! Messages in and out (R-WS.13 to R-WS.16), bad ones, and peers that do not read.

use std::time::Duration;

use homefleet_net::mtp::{Event, SendError};
use homefleet_usp::Record;
use homefleet_usp::record::MAX_RECORD;

use super::raw::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, Raw, TEXT};
use super::{AGENT, CONTROLLER, Side, id, pair, record, side, side_with};

/// A Controller with one session, whose other end is byte by byte.
async fn open(controller: &mut Side) -> Raw {
    let listeners = controller.mtp.stats().accepted;
    let name = format!("listener {listeners}");
    let listener = super::listener("127.0.0.1:0", false);
    let address = controller.mtp.listen(&name, listener).await.unwrap();
    let raw = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    controller.up().await;
    raw
}

#[tokio::test]
async fn what_is_no_record_closes_the_session_with_1003() {
    let mut controller = side(CONTROLLER);
    for (first, payload) in [
        (FIN | TEXT, &b"text"[..]),
        (FIN | TEXT, b"not even UTF-8 \xff"),
        (FIN | BINARY, b"\xff no protobuf"),
    ] {
        let mut raw = open(&mut controller).await;
        raw.frame(first, payload).await;
        assert_eq!(raw.close_code().await, 1003, "{payload:?}");
        raw.frame(FIN | CLOSE, &1003_u16.to_be_bytes()).await;
        raw.end().await;
        controller.down().await;
    }
    assert_eq!(controller.mtp.stats().unextractable, 3);
    assert_eq!(controller.mtp.stats().records_in, 0);
}

#[tokio::test]
async fn what_is_too_large_closes_the_session_with_1009() {
    let mut controller = side_with(CONTROLLER, |config| config.session.max_record = 1000);
    let large = record(AGENT, CONTROLLER, &[7; 1000]);
    // In one frame, announced and not sent, and in fragments.
    let mut raw = open(&mut controller).await;
    raw.record(&large).await;
    assert_eq!(raw.close_code().await, 1009);
    drop(raw);
    controller.down().await;
    let mut raw = open(&mut controller).await;
    raw.write(&[
        FIN | BINARY,
        0x80 | 127,
        0x7f,
        0xff,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
        1,
        2,
        3,
        4,
    ])
    .await;
    assert_eq!(raw.close_code().await, 1009);
    drop(raw);
    controller.down().await;
    let mut raw = open(&mut controller).await;
    raw.frame(BINARY, &large[..600]).await;
    raw.frame(FIN | CONTINUATION, &large[600..]).await;
    assert_eq!(raw.close_code().await, 1009);
    drop(raw);
    controller.down().await;
    assert_eq!(controller.mtp.stats().too_large, 3);
}

#[tokio::test]
async fn what_breaks_the_protocol_closes_the_session_with_1002() {
    let mut controller = side(CONTROLLER);
    let sent = record(AGENT, CONTROLLER, b"x");
    let frames = [
        // Not masked, a reserved bit, an unknown opcode, a control frame in fragments or too long, a fragment of nothing.
        super::raw::frame(FIN | BINARY, &sent, None),
        super::raw::frame(FIN | 0x40 | BINARY, &sent, Some([1; 4])),
        super::raw::frame(FIN | 3, b"", Some([1; 4])),
        super::raw::frame(PING, b"", Some([1; 4])),
        super::raw::frame(FIN | PING, &[0; 126], Some([1; 4])),
        super::raw::frame(FIN | CONTINUATION, &sent, Some([1; 4])),
    ];
    for frame in &frames {
        let mut raw = open(&mut controller).await;
        raw.write(frame).await;
        assert_eq!(raw.close_code().await, 1002, "{frame:?}");
        drop(raw);
        controller.down().await;
    }
    assert_eq!(controller.mtp.stats().protocol_errors, frames.len() as u64);
}

#[tokio::test]
async fn a_wrong_mask_makes_no_record_and_closes_with_1003() {
    let mut controller = side(CONTROLLER);
    let mut raw = open(&mut controller).await;
    let mut frame = super::raw::frame(FIN | BINARY, &record(AGENT, CONTROLLER, b"x"), Some([9; 4]));
    frame[2] ^= 0xff;
    raw.write(&frame).await;
    assert_eq!(raw.close_code().await, 1003);
}

#[tokio::test]
async fn fragments_are_put_together_with_control_frames_between_them() {
    let mut controller = side(CONTROLLER);
    let mut raw = open(&mut controller).await;
    let sent = record(AGENT, CONTROLLER, b"in parts");
    let (first, rest) = sent.split_at(5);
    raw.frame(BINARY, first).await;
    raw.frame(FIN | PING, b"1").await;
    raw.frame(CONTINUATION, b"").await;
    for byte in rest {
        raw.frame(CONTINUATION, &[*byte]).await;
    }
    raw.frame(FIN | CONTINUATION, b"").await;
    assert_eq!(raw.read().await, (FIN | PONG, b"1".to_vec()));
    assert_eq!(controller.payload().await, b"in parts");
}

#[tokio::test]
async fn a_record_goes_out_in_one_binary_frame() {
    let mut controller = side(CONTROLLER);
    let mut raw = open(&mut controller).await;
    for length in [0, 125, 126, 65_535, 65_536, 1_000_000] {
        let sent = record(CONTROLLER, AGENT, &vec![5; length + 1]);
        controller.send(AGENT, sent.clone()).await.unwrap();
        assert_eq!(raw.read().await, (FIN | BINARY, sent));
    }
}

#[tokio::test]
async fn the_largest_record_passes_and_a_larger_one_is_not_sent() {
    let (agent, mut controller) = pair().await;
    let overhead = record(AGENT, CONTROLLER, &[1; 1 << 22]).len() - (1 << 22);
    let payload = vec![9; MAX_RECORD - overhead];
    let largest = record(AGENT, CONTROLLER, &payload);
    assert_eq!(largest.len(), MAX_RECORD);
    agent.send(CONTROLLER, largest).await.unwrap();
    assert_eq!(controller.payload().await, payload);
    let larger = record(AGENT, CONTROLLER, &[payload, vec![9]].concat());
    assert_eq!(
        agent.send(CONTROLLER, larger).await,
        Err(SendError::TooLarge)
    );
}

#[tokio::test]
async fn a_record_in_the_name_of_another_endpoint_is_dropped_and_counted() {
    let mut controller = side(CONTROLLER);
    let mut raw = open(&mut controller).await;
    raw.record(&record("os::00256D-forged", CONTROLLER, b"forged"))
        .await;
    raw.record(&record(AGENT, CONTROLLER, b"honest")).await;
    assert_eq!(controller.payload().await, b"honest");
    assert_eq!(controller.mtp.stats().forged_records, 1);
}

#[tokio::test]
async fn who_says_to_be_this_endpoint_itself_is_put_out() {
    let mut controller = side(CONTROLLER);
    let address = controller.listen().await;
    let mut raw = Raw::open(address, "/usp").await;
    raw.record(&record(CONTROLLER, AGENT, b"mirror")).await;
    assert_eq!(raw.close_code().await, 1008);
    assert!(controller.events.try_recv().is_err());
}

#[tokio::test]
async fn a_record_that_is_wrong_is_handed_on_and_the_session_stays() {
    let mut controller = side(CONTROLLER);
    let mut raw = open(&mut controller).await;
    // The version that stands first.
    let mut wrong = record(AGENT, CONTROLLER, b"x");
    let at = wrong.windows(3).position(|text| text == b"1.4").unwrap();
    wrong[at] = b'9';
    raw.record(&wrong).await;
    match controller.next().await {
        Event::Erroneous { error, origin } => {
            assert_eq!(error, Record::decode(&wrong).unwrap_err());
            assert_eq!(error.from_id(), Some(&id(AGENT)));
            assert!(origin.channel.is_some());
        }
        other => panic!("{other:?}"),
    }
    raw.record(&record(AGENT, CONTROLLER, b"next")).await;
    assert_eq!(controller.payload().await, b"next");
    assert_eq!(controller.mtp.stats().erroneous_records, 1);
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_a_bounded_queue_and_is_given_up() {
    let mut controller = side_with(CONTROLLER, |config| {
        config.session.keep_alive = None;
        config.session.max_queued = 24_000_000;
        config.limits.stalled = Duration::from_millis(500);
    });
    let raw = open(&mut controller).await;
    let sent = record(CONTROLLER, AGENT, &vec![3; 4_000_000]);
    let to = id(AGENT);
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (mtp, to, sent) = (controller.mtp.clone(), to.clone(), sent.clone());
        sending.spawn(async move { mtp.send(&super::PLAIN, &to, sent).await });
    }
    let outcomes = sending.join_all().await;
    let how_many = |wanted: &dyn Fn(&Result<(), SendError>) -> bool| {
        outcomes.iter().filter(|outcome| wanted(outcome)).count()
    };
    let busy = how_many(&|outcome| *outcome == Err(SendError::Busy));
    let undone =
        how_many(&|outcome| matches!(outcome, Err(SendError::Lost | SendError::NotConnected)));
    // The system takes a few, six wait.
    assert!(busy >= 1 && undone >= 1, "{outcomes:?}");
    assert_eq!(controller.mtp.stats().busy, busy as u64);
    controller.down().await;
    assert_eq!(controller.mtp.stats().unresponsive, 1);
    drop(raw);
}

#[tokio::test]
async fn what_the_application_has_not_taken_holds_the_peer_back_and_nothing_is_lost() {
    let (agent, mut controller) = pair().await;
    let count = 500_u32;
    let (mtp, to) = (agent.mtp.clone(), id(CONTROLLER));
    let sending = tokio::spawn(async move {
        for number in 0..count {
            let sent = record(AGENT, CONTROLLER, &number.to_be_bytes());
            mtp.send(&super::PLAIN, &to, sent).await.unwrap();
        }
    });
    controller.stats(|stats| stats.held_back > 0).await;
    for number in 0..count {
        assert_eq!(controller.payload().await, number.to_be_bytes());
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_held_back_is_not_taken_for_dead() {
    let mut controller = side_with(CONTROLLER, |config| {
        config.session.keep_alive = Some(Duration::from_millis(10));
        config.session.pong_timeout = Duration::from_millis(10);
    });
    // The 64 events that there is room for: `Up` is taken.
    let mut raw = open(&mut controller).await;
    for number in 0..70_u8 {
        raw.record(&record(AGENT, CONTROLLER, &[number])).await;
    }
    controller.stats(|stats| stats.held_back > 0).await;
    // Longer than a Ping may go without an answer: the answer is read when there is room again.
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(controller.mtp.stats().sessions, 1);
    for number in 0..70_u8 {
        assert_eq!(controller.payload().await, [number]);
    }
}
