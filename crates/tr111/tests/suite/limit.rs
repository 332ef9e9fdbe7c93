//! The least time between notifications.

use std::time::Duration;

use homefleet_tr111::limit::NotificationLimit;

use crate::world::{secs, start};

#[test]
fn changes_within_the_limit_become_one_notification() {
    let now = start();
    let mut limit = NotificationLimit::new(secs(60));
    assert!(!limit.take(now), "nothing changed");
    limit.changed();
    assert_eq!(limit.poll_timeout(), Some(None));
    assert!(limit.take(now) && !limit.take(now));
    for second in 1..50 {
        limit.changed();
        assert!(!limit.take(now + secs(second)));
    }
    assert_eq!(limit.poll_timeout(), Some(Some(now + secs(60))));
    assert!(limit.take(now + secs(60)));
    assert_eq!(limit.poll_timeout(), None);
}

#[test]
fn another_limit_counts_from_the_last_notification() {
    let now = start();
    let mut limit = NotificationLimit::new(Duration::MAX);
    limit.changed();
    assert!(limit.take(now));
    limit.changed();
    assert_eq!(limit.poll_timeout(), None, "never");
    assert!(!limit.take(now + secs(1_000_000)));
    limit.set(secs(10));
    assert!(!limit.take(now + secs(9)) && limit.take(now + secs(10)));
}
