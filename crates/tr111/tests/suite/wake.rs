//! Copies of a UDP Connection Request.

use homefleet_tr111::server::{Wake, WakeConfig, Wakes, next_timestamp};

use crate::world::{SERVER, address, start};

fn wake() -> Wake {
    Wake {
        to: address("198.51.100.9:50001"),
        local: address(SERVER),
        octets: b"GET".to_vec(),
    }
}

#[test]
fn copies_are_identical_and_spaced() {
    let now = start();
    let mut wakes = Wakes::new(WakeConfig::default());
    assert!(wakes.start(now, wake()));
    let mut sent = Vec::new();
    loop {
        while let Some(copy) = wakes.poll_transmit() {
            assert_eq!(copy, wake());
            sent.push(());
        }
        let Some(due) = wakes.poll_timeout() else {
            break;
        };
        assert_eq!((due - now).as_millis(), 100 * sent.len() as u128);
        wakes.handle_timeout(due);
    }
    assert_eq!(sent.len(), 3);
}

#[test]
fn a_single_copy_leaves_nothing_outstanding() {
    let mut wakes = Wakes::new(WakeConfig {
        copies: 0,
        ..WakeConfig::default()
    });
    assert!(wakes.start(start(), wake()));
    assert!(wakes.poll_transmit().is_some());
    assert_eq!((wakes.poll_transmit(), wakes.poll_timeout()), (None, None));
}

#[test]
fn outstanding_requests_are_bounded() {
    let mut wakes = Wakes::new(WakeConfig {
        max_outstanding: 2,
        ..WakeConfig::default()
    });
    assert!(wakes.start(start(), wake()));
    assert!(
        !wakes.start(start(), wake()),
        "one waits to be sent, one is for later"
    );
}

#[test]
fn timestamps_grow_whatever_the_clock_does() {
    assert_eq!(next_timestamp(100, None), 100);
    assert_eq!(next_timestamp(100, Some(99)), 100);
    assert_eq!(next_timestamp(100, Some(100)), 101);
    assert_eq!(next_timestamp(50, Some(100)), 101);
    assert_eq!(next_timestamp(50, Some(u64::MAX)), u64::MAX);
}
