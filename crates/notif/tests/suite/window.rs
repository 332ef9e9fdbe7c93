//! The window of Message IDs against a model that remembers everything.

use std::collections::BTreeSet;

use homefleet_notif::{Arrival, Window, WindowConfig};
use proptest::prelude::*;

const SMALL: WindowConfig = WindowConfig {
    reorder: 64,
    forward: 1000,
    restart_after: 3,
};

fn noted(window: &mut Window, ids: impl IntoIterator<Item = u32>) -> Vec<Arrival> {
    ids.into_iter().map(|id| window.note(id)).collect()
}

#[test]
fn ids_in_order_are_new_and_nothing_is_missing() {
    let mut window = Window::before(&SMALL, 7);
    assert!(
        noted(&mut window, 7..1000)
            .iter()
            .all(|arrival| *arrival == Arrival::New)
    );
    assert_eq!((window.missing(), window.lost()), (0, 0));
}

#[test]
fn wrap_around_is_a_step_like_any_other() {
    let mut window = Window::before(&SMALL, u32::MAX - 1);
    let arrivals = noted(&mut window, [u32::MAX - 1, u32::MAX, 0, 2, 1]);
    assert_eq!(
        arrivals,
        [
            Arrival::New,
            Arrival::New,
            Arrival::New,
            Arrival::New,
            Arrival::Reordered
        ]
    );
    assert_eq!((window.missing(), window.lost()), (0, 0));
}

#[test]
fn gap_is_missing_until_it_is_too_old_to_be_filled() {
    let mut window = Window::before(&SMALL, 1);
    noted(&mut window, [1, 2, 5]);
    assert_eq!((window.missing(), window.lost()), (2, 0));
    assert_eq!(window.note(4), Arrival::Reordered);
    assert_eq!((window.missing(), window.lost()), (1, 0));
    noted(&mut window, 6..67);
    assert_eq!((window.missing(), window.lost()), (1, 0));
    window.note(67);
    assert_eq!((window.missing(), window.lost()), (0, 1));
    assert_eq!(window.note(3), Arrival::OutOfWindow);
    assert_eq!((window.missing(), window.lost()), (0, 1));
}

#[test]
fn gap_wider_than_the_window_is_counted_whole() {
    let mut window = Window::before(&SMALL, 10);
    noted(&mut window, [10, 12, 512]);
    assert_eq!(u64::from(window.missing()) + window.lost(), 1 + 499);
}

#[test]
fn what_came_before_the_first_is_accepted_and_counts() {
    let mut window = Window::before(&SMALL, 10);
    assert_eq!(
        noted(&mut window, [10, 7]),
        [Arrival::New, Arrival::Reordered]
    );
    assert_eq!(window.missing(), 2);
    assert_eq!(
        noted(&mut window, [8, 9, 9]),
        [Arrival::Reordered, Arrival::Reordered, Arrival::Duplicate]
    );
    assert_eq!(window.missing(), 0);
}

#[test]
fn far_id_is_no_loss_and_the_third_of_a_row_is_a_restart() {
    let mut window = Window::before(&SMALL, 10);
    window.note(10);
    assert_eq!(
        noted(&mut window, [900_000, 900_001, 900_002, 900_003]),
        [
            Arrival::OutOfWindow,
            Arrival::OutOfWindow,
            Arrival::Restarted,
            Arrival::New
        ]
    );
    assert_eq!((window.missing(), window.lost()), (0, 0));
}

#[test]
fn far_ids_between_accepted_ones_restart_nothing() {
    let mut window = Window::before(&SMALL, 10);
    for (good, far) in (10..100).zip(900_000..) {
        assert_eq!(window.note(good), Arrival::New);
        assert_eq!(window.note(far), Arrival::OutOfWindow);
    }
}

#[test]
fn publisher_that_begins_at_1_again_is_seen_by_its_duplicates() {
    let mut window = Window::before(&SMALL, 1);
    noted(&mut window, 1..50);
    assert_eq!(
        noted(&mut window, 1..5),
        [
            Arrival::Duplicate,
            Arrival::Duplicate,
            Arrival::Restarted,
            Arrival::New
        ]
    );
    // The same beyond the window.
    noted(&mut window, 5..500);
    assert_eq!(
        noted(&mut window, 1..5),
        [
            Arrival::OutOfWindow,
            Arrival::OutOfWindow,
            Arrival::Restarted,
            Arrival::New
        ]
    );
}

#[test]
fn late_messages_in_a_row_restart_nothing() {
    let mut window = Window::before(&SMALL, 1);
    noted(&mut window, 1..500);
    assert!(
        noted(&mut window, 200..260)
            .iter()
            .all(|arrival| *arrival == Arrival::OutOfWindow)
    );
    assert!(
        noted(&mut window, 460..490)
            .iter()
            .all(|arrival| *arrival == Arrival::Duplicate)
    );
    assert_eq!(window.note(500), Arrival::New);
    assert_eq!((window.missing(), window.lost()), (0, 0));
}

proptest! {
    /// Whatever is lost, repeated and reordered within the window, on either side of the wrap: each ID is accepted once, and those that
    /// are not are lost or missing.
    #[test]
    fn every_id_is_accepted_once_or_lost_or_missing(
        start: u32,
        fates in proptest::collection::vec((0..4_u8, 0..60_usize), 1..800),
    ) {
        let mut arrivals: Vec<(usize, u32)> = Vec::new();
        for (index, (copies, delay)) in fates.iter().enumerate() {
            let id = start.wrapping_add(u32::try_from(index).unwrap());
            for copy in 0..usize::from(*copies) {
                arrivals.push((index + delay / 2 + copy * 3, id));
            }
        }
        arrivals.sort();
        let Some(&(_, first)) = arrivals.first() else { return Ok(()) };
        let config = WindowConfig { restart_after: u32::MAX, ..SMALL };
        let mut window = Window::before(&config, first);
        let mut accepted = BTreeSet::new();
        for (_, id) in &arrivals {
            let arrival = window.note(*id);
            let new = accepted.insert(id.wrapping_sub(start));
            prop_assert_eq!(arrival.is_accepted(), new, "{:?}", arrival);
        }
        let all = accepted.last().unwrap() - accepted.first().unwrap() + 1;
        let gone = u64::from(window.missing()) + window.lost();
        prop_assert_eq!(u64::from(all), accepted.len() as u64 + gone);
    }

    #[test]
    fn any_ids_leave_the_window_consistent(ids in proptest::collection::vec(prop_oneof![0..200_u32, any::<u32>()], 1..300)) {
        let mut window = Window::before(&SMALL, ids[0]);
        for id in ids {
            window.note(id);
            prop_assert!(window.missing() < 64);
        }
    }
}
