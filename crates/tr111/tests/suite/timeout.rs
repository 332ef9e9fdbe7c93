//! Finding out how long a binding lasts, and keeping it.

use std::time::Duration;

use homefleet_tr111::{
    client::{ClientConfig, Event, Socket},
    server::Authenticate,
    stun::{Attribute, Message},
};

use crate::world::{World, behind, config, secs};

fn found(world: &World) -> Vec<(Duration, Option<Duration>)> {
    let timeouts = world.events.iter().filter_map(|(_, event)| match event {
        Event::Timeout { alive, expired } => Some((*alive, *expired)),
        _ => None,
    });
    timeouts.collect()
}

/// When the primary socket began to send a request for refreshing, without repetitions.
fn refreshes(world: &World) -> Vec<Duration> {
    let mut seen = std::collections::HashSet::new();
    let mut times = Vec::new();
    for (at, transmit) in &world.sent {
        let message = Message::decode(&transmit.octets).unwrap();
        let refresh = transmit.socket == Socket::Primary && !message.has(Attribute::BindingChange);
        if refresh && seen.insert(message.transaction) {
            times.push(*at);
        }
    }
    times
}

#[test]
fn the_timeout_is_found_to_a_second() {
    for timeout in [3, 5, 12, 17, 29, 30, 31, 50] {
        let mut world = World::new(config(), behind(timeout), Authenticate::Changes);
        world.run(secs(1200));
        let (alive, expired) = found(&world)[0];
        let expired = expired.unwrap();
        assert!(
            alive < secs(timeout) && secs(timeout) <= expired,
            "{timeout}: {alive:?} {expired:?}"
        );
        assert!(
            expired - alive <= secs(1),
            "{timeout}: {alive:?} {expired:?}"
        );
    }
}

#[test]
fn once_found_the_binding_is_never_lost_again() {
    let mut world = World::new(config(), behind(12), Authenticate::Changes);
    world.run(secs(600));
    assert_eq!(found(&world).len(), 1);
    let binding = world.client.binding();
    let changes = world.client.stats().changes;
    world.run(secs(36_000));
    assert_eq!(
        (world.client.binding(), world.client.stats().changes),
        (binding, changes)
    );
    assert!(world.client.period() < secs(12) && world.client.period() >= secs(9));
}

#[test]
fn the_operators_limits_hold_at_every_time() {
    for timeout in [2, 12, 40, 100, 100_000] {
        let limits = ClientConfig {
            minimum: secs(10),
            maximum: Some(secs(60)),
            ..config()
        };
        let mut world = World::new(limits, behind(timeout), Authenticate::Changes);
        world.run(secs(3600));
        let times = refreshes(&world);
        assert!(times.len() >= 60, "{timeout}");
        for pair in times.windows(2) {
            let apart = pair[1] - pair[0];
            assert!(
                apart >= secs(10) && apart <= secs(60),
                "{timeout}: {apart:?} at {:?}",
                pair[0]
            );
        }
    }
}

#[test]
fn equal_limits_leave_nothing_to_find_out() {
    let limits = ClientConfig {
        minimum: secs(25),
        maximum: Some(secs(25)),
        ..config()
    };
    let mut world = World::new(limits, behind(12), Authenticate::Nothing);
    world.run(secs(1000));
    assert!(
        world
            .sent
            .iter()
            .all(|(_, transmit)| transmit.socket == Socket::Primary)
    );
    let times = refreshes(&world);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == secs(25)));
    assert_eq!(found(&world), []);
}

#[test]
fn without_a_maximum_the_longest_silence_is_ours() {
    let limits = ClientConfig {
        maximum: None,
        longest: secs(300),
        ..config()
    };
    let mut world = World::new(limits, behind(100_000), Authenticate::Nothing);
    world.run(secs(3600));
    assert_eq!(found(&world), [(secs(300), None)]);
    assert_eq!(world.client.period(), secs(270));
}

#[test]
fn a_server_that_ignores_response_address_leaves_the_fallback() {
    let mut world = World::new(config(), behind(100), Authenticate::Nothing);
    world.tests_work = false;
    world.run(secs(1000));
    let told = world
        .events
        .iter()
        .filter(|(_, event)| *event == Event::CannotTest)
        .count();
    assert_eq!((told, found(&world)), (1, vec![]));
    assert_eq!(world.client.period(), secs(30));
    let held = ClientConfig {
        fallback: secs(5000),
        ..config()
    };
    world.client.configure(held, world.now);
    world.run(secs(100));
    assert_eq!(world.client.period(), secs(60), "never over the maximum");
}

#[test]
fn monitoring_notices_that_the_timeout_became_shorter() {
    let mut world = World::new(config(), behind(40), Authenticate::Changes);
    world.run(secs(1200));
    assert_eq!(found(&world).len(), 1);
    world.nat.timeout = secs(8);
    world.run(secs(1200));
    let (alive, expired) = *found(&world).last().unwrap();
    assert!(
        alive < secs(8) && expired.unwrap() >= secs(8),
        "{alive:?} {expired:?}"
    );
    let changes = world.client.stats().changes;
    world.run(secs(3600));
    assert_eq!(world.client.stats().changes, changes);
}

#[test]
fn a_mapping_that_dies_without_moving_is_still_found() {
    let mut nat = behind(12);
    nat.moves = false;
    let mut world = World::new(config(), nat, Authenticate::Nothing);
    world.run(secs(600));
    let (alive, expired) = found(&world)[0];
    assert!(
        alive < secs(12) && expired.unwrap() >= secs(12),
        "{alive:?} {expired:?}"
    );
}

#[test]
fn losses_cost_repetitions_and_no_binding() {
    let mut world = World::new(config(), behind(20), Authenticate::Changes);
    world.lose_every = 3;
    world.run(secs(2000));
    let changes = world.client.stats().changes;
    world.run(secs(3600));
    assert_eq!(world.client.stats().changes, changes);
    assert!(world.client.period() < secs(20) && world.client.period() > secs(9));
}

#[test]
fn a_binding_shorter_than_the_minimum_is_kept_as_well_as_allowed_and_not_told_for_ever() {
    let limits = ClientConfig {
        minimum: secs(20),
        ..config()
    };
    let mut world = World::new(limits, behind(5), Authenticate::Changes);
    world.run(secs(600));
    let told = found(&world);
    assert_eq!(told.last(), Some(&(secs(20), Some(secs(20)))));
    world.run(secs(3600));
    assert_eq!(found(&world), told);
    assert_eq!(world.client.period(), secs(20));
}
