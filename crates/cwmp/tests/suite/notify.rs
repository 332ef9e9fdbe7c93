//! Which changes are told, and how many Connection Requests are taken.

use homefleet_cwmp::{
    calls::{Admission, Calls},
    message::Notification,
    notify::{Author, Effect, Notifications, TooMany},
};

use crate::world::{seconds, start};

const A: &str = "Device.A";

fn watching(notification: Notification) -> Notifications {
    let mut all = Notifications::new(10);
    all.set(A, notification, "1").unwrap();
    all
}

#[test]
fn a_change_of_the_device_is_told_and_one_of_the_acs_is_not() {
    for (notification, effect) in [
        (Notification::Off, Effect::Nothing),
        (Notification::Passive, Effect::Tell),
        (Notification::Active, Effect::TellAtOnce),
        (Notification::PassiveLightweight, Effect::Nothing),
        (Notification::PassiveWithPassiveLightweight, Effect::Tell),
        (Notification::ActiveLightweight, Effect::Nothing),
        (Notification::PassiveWithActiveLightweight, Effect::Tell),
    ] {
        let mut all = watching(notification);
        assert_eq!(all.changed(A, "2", Author::Acs), Effect::Nothing);
        assert_eq!(all.include(), []);
        assert_eq!(
            all.changed(A, "2", Author::Other),
            Effect::Nothing,
            "the same value"
        );
        assert_eq!(all.changed(A, "3", Author::Other), effect);
        let told = effect != Effect::Nothing;
        assert_eq!(all.include().len(), usize::from(told), "{notification:?}");
    }
    let mut all = watching(Notification::Active);
    assert_eq!(all.changed("Device.B", "2", Author::Other), Effect::Nothing);
}

#[test]
fn what_was_told_is_known_and_what_changed_meanwhile_is_told_next() {
    let mut all = watching(Notification::Active);
    all.changed(A, "2", Author::Other);
    assert_eq!(all.include(), [(A.to_owned(), "2".to_owned())]);
    all.changed(A, "3", Author::Other);
    assert!(all.delivered(), "more has changed");
    assert_eq!(all.include(), [(A.to_owned(), "3".to_owned())]);
    all.failed();
    assert_eq!(
        all.include(),
        [(A.to_owned(), "3".to_owned())],
        "still to be told"
    );
    assert!(!all.delivered());
    assert_eq!(all.include(), []);
    assert_eq!(
        all.iter().next().map(|(_, watched)| watched.known.as_str()),
        Some("3")
    );
}

#[test]
fn a_value_that_the_acs_has_set_is_no_longer_to_be_told() {
    let mut all = watching(Notification::Passive);
    all.changed(A, "2", Author::Other);
    all.changed(A, "9", Author::Acs);
    assert_eq!(all.include(), []);
    all.changed(A, "1", Author::Other);
    all.include();
    all.changed(A, "9", Author::Acs);
    assert!(!all.delivered());
    assert_eq!(all.changed(A, "9", Author::Other), Effect::Nothing);
}

#[test]
fn there_and_back_again_is_told() {
    let mut all = watching(Notification::Passive);
    all.changed(A, "2", Author::Other);
    assert_eq!(all.changed(A, "1", Author::Other), Effect::Tell);
    assert_eq!(all.include(), [(A.to_owned(), "1".to_owned())]);
}

#[test]
fn what_changed_while_the_device_was_off_is_told() {
    let mut all = Notifications::new(10);
    all.restore(A, Notification::Active, "1");
    assert_eq!(all.changed(A, "1", Author::Other), Effect::Nothing);
    assert_eq!(all.changed(A, "2", Author::Other), Effect::TellAtOnce);
    all.remove(A);
    assert_eq!(all.notification(A), Notification::Off);
}

#[test]
fn at_most_so_many_parameters_are_watched() {
    let mut all = Notifications::new(1);
    assert_eq!(all.set(A, Notification::Active, "1"), Ok(()));
    assert_eq!(all.set("Device.B", Notification::Active, "1"), Err(TooMany));
    assert_eq!(all.set(A, Notification::Passive, "1"), Ok(()));
    assert_eq!(all.notification(A), Notification::Passive);
    assert_eq!(all.set(A, Notification::Off, "1"), Ok(()));
    assert_eq!(all.set("Device.B", Notification::Active, "1"), Ok(()));
}

#[test]
fn so_many_connection_requests_are_taken_within_so_long() {
    let now = start();
    let mut calls = Calls::new(2, seconds(60));
    assert_eq!(calls.admit(now), Admission::Take);
    assert_eq!(calls.admit(now + seconds(20)), Admission::Take);
    let wait = seconds(30);
    assert_eq!(calls.admit(now + seconds(30)), Admission::TooMany { wait });
    assert_eq!(
        calls.admit(now + seconds(60)),
        Admission::Take,
        "the first is long ago"
    );
    assert!(matches!(
        calls.admit(now + seconds(61)),
        Admission::TooMany { .. }
    ));
    assert_eq!(calls.refused(), 2);
}
