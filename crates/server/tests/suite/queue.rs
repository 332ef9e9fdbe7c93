//! The task state machine, in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use homefleet_api::{
    OperateResult, Operation, PathError, TaskError, TaskErrorCode, TaskResult, TaskState,
};
use homefleet_server::clock::Millis;
use homefleet_server::store::TaskRecord;
use homefleet_server::task::queue::{CancelError, Delivery, Dispatch, PushError};
use homefleet_server::task::{Queue, QueueConfig};

use crate::common::{START, get, operate, seconds, task};

const DEVICE: &str = "os::1";

fn queue() -> Queue {
    Queue::restore(QueueConfig::default(), START, Vec::new())
}

fn push(queue: &mut Queue, id: &str, operation: Operation) {
    queue
        .push(task(id, DEVICE, operation), Some(START))
        .unwrap();
}

/// The identifiers that are handed out now.
fn sent(queue: &mut Queue, now: Millis) -> Vec<String> {
    queue
        .poll(now)
        .into_iter()
        .map(|dispatch| match dispatch {
            Dispatch::Run(task) => task.id,
            Dispatch::Probe { device } => format!("probe {device}"),
        })
        .collect()
}

fn result() -> Result<TaskResult, TaskError> {
    Ok(TaskResult::Get { paths: Vec::new() })
}

fn accepted() -> Result<TaskResult, TaskError> {
    Ok(TaskResult::Operate {
        commands: vec![OperateResult {
            command: "Device.IP.Diagnostics.IPPing()".to_owned(),
            request: Some("Device.LocalAgent.Request.1.".to_owned()),
            output: BTreeMap::new(),
            error: None,
        }],
    })
}

/// The last change of a task.
fn last(queue: &mut Queue, id: &str) -> TaskRecord {
    queue
        .drain_changes()
        .into_iter()
        .rfind(|task| task.id == id)
        .unwrap()
}

fn lost() -> Delivery {
    Delivery::NotDelivered("handshake failed".to_owned())
}

fn unclear() -> Delivery {
    Delivery::Unclear("no acknowledgement".to_owned())
}

#[test]
fn tasks_of_one_device_go_one_at_a_time_in_their_order() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    push(&mut queue, "2", get("Device.B"));
    queue
        .push(task("3", "os::2", get("Device.C")), Some(START))
        .unwrap();
    assert_eq!(sent(&mut queue, START), ["1", "3"]);
    assert!(sent(&mut queue, seconds(1)).is_empty());
    queue.delivered(seconds(1), "1", Delivery::Taken);
    assert!(sent(&mut queue, seconds(1)).is_empty());
    assert!(queue.answered(seconds(2), DEVICE, "1", result()));
    assert_eq!(sent(&mut queue, seconds(2)), ["2"]);
}

#[test]
fn sent_is_stored_before_the_message_is_handed_out() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    queue.drain_changes();
    let dispatches = queue.poll(START);
    let stored = last(&mut queue, "1");
    assert_eq!((stored.state, stored.attempts), (TaskState::Sent, 1));
    assert_eq!(dispatches, [Dispatch::Run(Box::new(stored))]);
}

#[test]
fn an_answer_ends_the_task_and_an_error_fails_it() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    push(&mut queue, "2", get("Device.B"));
    sent(&mut queue, START);
    assert!(queue.answered(seconds(1), DEVICE, "1", result()));
    let done = last(&mut queue, "1");
    assert_eq!(
        (done.state, done.updated, done.result),
        (TaskState::Done, seconds(1), result().ok())
    );
    sent(&mut queue, seconds(1));
    let error = TaskError {
        code: TaskErrorCode::Device,
        usp_code: Some(7026),
        message: "Invalid path".to_owned(),
        param_errors: Vec::new(),
    };
    queue.answered(seconds(2), DEVICE, "2", Err(error.clone()));
    let failed = last(&mut queue, "2");
    assert_eq!(
        (failed.state, failed.error),
        (TaskState::Failed, Some(error))
    );
    assert!(queue.is_empty());
}

#[test]
fn an_answer_from_another_device_is_ignored() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    sent(&mut queue, START);
    assert!(!queue.answered(seconds(1), "os::2", "1", result()));
    assert!(!queue.answered(seconds(1), DEVICE, "unknown", result()));
    assert_eq!(queue.task("1").unwrap().state, TaskState::Sent);
}

#[test]
fn a_task_that_was_never_sent_cannot_be_answered() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    assert!(!queue.answered(START, DEVICE, "1", result()));
}

#[test]
fn an_unreachable_device_is_tried_again_with_doubling_pauses() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    let mut now = START;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(sent(&mut queue, now), ["1"]);
        queue.delivered(now, "1", lost());
        let next = last(&mut queue, "1").next_attempt.unwrap();
        pauses.push(next.since(now).as_secs());
        assert_eq!(queue.poll_timeout(), Some(next));
        now = next;
        queue.handle_timeout(now);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(queue.task("1").unwrap().attempts, 8);
}

#[test]
fn hearing_the_device_ends_the_pause() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    sent(&mut queue, START);
    queue.delivered(START, "1", lost());
    assert!(sent(&mut queue, seconds(1)).is_empty());
    queue.contact(seconds(2), DEVICE);
    assert_eq!(sent(&mut queue, seconds(2)), ["1"]);
}

#[test]
fn a_task_that_was_not_delivered_in_time_expires() {
    let mut queue = queue();
    let mut record = task("1", DEVICE, operate("Device.Reboot()"));
    record.expires = seconds(7);
    queue.push(record, Some(START)).unwrap();
    sent(&mut queue, START);
    queue.delivered(START, "1", lost());
    queue.handle_timeout(seconds(5));
    sent(&mut queue, seconds(5));
    queue.delivered(seconds(5), "1", lost());
    assert_eq!(queue.poll_timeout(), Some(seconds(7)));
    queue.handle_timeout(seconds(7));
    let expired = last(&mut queue, "1");
    assert_eq!(expired.state, TaskState::Expired);
    assert_eq!(expired.error.unwrap().code, TaskErrorCode::Expired);
    assert!(sent(&mut queue, seconds(7)).is_empty());
}

#[test]
fn tasks_behind_an_unreachable_one_expire_too() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    let mut short = task("2", DEVICE, get("Device.B"));
    short.expires = seconds(3);
    queue.push(short, Some(START)).unwrap();
    sent(&mut queue, START);
    queue.delivered(START, "1", lost());
    queue.handle_timeout(seconds(3));
    assert_eq!(last(&mut queue, "2").state, TaskState::Expired);
    assert_eq!(queue.task("1").unwrap().state, TaskState::Queued);
}

#[test]
fn silence_repeats_what_is_harmless() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    sent(&mut queue, START);
    queue.delivered(START, "1", Delivery::Taken);
    queue.handle_timeout(seconds(60));
    let again = last(&mut queue, "1");
    assert_eq!(
        (again.state, again.next_attempt),
        (TaskState::Queued, Some(seconds(65)))
    );
    // The first attempt's answer is late, and counts.
    assert!(queue.answered(seconds(61), DEVICE, "1", result()));
    assert_eq!(last(&mut queue, "1").state, TaskState::Done);
}

#[test]
fn silence_never_repeats_an_operate_or_add() {
    let add = Operation::Add {
        allow_partial: false,
        objects: Vec::new(),
    };
    for operation in [operate("Device.Reboot()"), add] {
        for delivery in [Delivery::Taken, unclear()] {
            let mut queue = queue();
            push(&mut queue, "1", operation.clone());
            assert_eq!(sent(&mut queue, START), ["1"]);
            queue.delivered(seconds(1), "1", delivery);
            assert!(sent(&mut queue, seconds(2)).is_empty());
            queue.handle_timeout(seconds(61));
            let failed = last(&mut queue, "1");
            assert_eq!(failed.state, TaskState::Failed);
            assert_eq!(failed.error.unwrap().code, TaskErrorCode::UnknownOutcome);
            assert!(sent(&mut queue, seconds(61)).is_empty());
        }
    }
}

#[test]
fn an_operate_that_certainly_did_not_arrive_is_tried_again() {
    let mut queue = queue();
    push(&mut queue, "1", operate("Device.Reboot()"));
    sent(&mut queue, START);
    queue.delivered(START, "1", lost());
    queue.handle_timeout(seconds(5));
    assert_eq!(sent(&mut queue, seconds(5)), ["1"]);
}

#[test]
fn an_unclear_delivery_of_a_get_is_tried_again() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    sent(&mut queue, START);
    queue.delivered(START, "1", unclear());
    queue.handle_timeout(seconds(5));
    assert_eq!(sent(&mut queue, seconds(5)), ["1"]);
}

#[test]
fn a_silent_device_is_probed_before_an_operate() {
    let mut queue = queue();
    push(&mut queue, "1", operate("Device.Reboot()"));
    // Heard 60 seconds ago: an open association may be dead.
    assert_eq!(sent(&mut queue, seconds(60)), ["probe os::1"]);
    assert!(sent(&mut queue, seconds(60)).is_empty());
    queue.probed(seconds(61), DEVICE, unclear());
    let waiting = last(&mut queue, "1");
    assert_eq!((waiting.state, waiting.attempts), (TaskState::Queued, 0));
    queue.handle_timeout(seconds(66));
    assert_eq!(sent(&mut queue, seconds(66)), ["probe os::1"]);
    queue.probed(seconds(67), DEVICE, Delivery::Taken);
    assert_eq!(sent(&mut queue, seconds(67)), ["1"]);
}

#[test]
fn a_get_needs_no_probe() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    assert_eq!(sent(&mut queue, seconds(1000)), ["1"]);
}

#[test]
fn a_refused_message_fails_the_task_at_once() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    sent(&mut queue, START);
    queue.delivered(START, "1", Delivery::Refused("4.13".to_owned()));
    assert_eq!(
        last(&mut queue, "1").error.unwrap().code,
        TaskErrorCode::Refused
    );
}

#[test]
fn only_a_queued_task_can_be_cancelled() {
    let mut queue = queue();
    push(&mut queue, "1", get("Device.A"));
    push(&mut queue, "2", get("Device.B"));
    sent(&mut queue, START);
    assert_eq!(queue.cancel(START, "1"), Err(CancelError::AlreadySent));
    assert_eq!(queue.cancel(START, "2"), Ok(()));
    assert_eq!(last(&mut queue, "2").state, TaskState::Cancelled);
    assert_eq!(queue.cancel(START, "2"), Err(CancelError::NotOpen));
    // A sent task that came back to the queue can be.
    queue.delivered(START, "1", lost());
    assert_eq!(queue.cancel(START, "1"), Ok(()));
}

#[test]
fn an_accepted_asynchronous_command_does_not_hold_up_the_others() {
    let mut queue = queue();
    push(&mut queue, "1", operate("Device.IP.Diagnostics.IPPing()"));
    push(&mut queue, "2", get("Device.B"));
    sent(&mut queue, START);
    queue.answered(seconds(1), DEVICE, "1", accepted());
    assert_eq!(last(&mut queue, "1").state, TaskState::Sent);
    assert_eq!(sent(&mut queue, seconds(1)), ["2"]);
    assert_eq!(queue.open_tasks(DEVICE), 2);
    let output: BTreeMap<String, String> = [("SuccessCount".to_owned(), "3".to_owned())].into();
    assert!(queue.completed(
        seconds(9),
        DEVICE,
        "1",
        "Device.IP.Diagnostics.IPPing()",
        Ok(output.clone())
    ));
    let done = last(&mut queue, "1");
    assert_eq!(done.state, TaskState::Done);
    let Some(TaskResult::Operate { commands }) = done.result else {
        panic!("{:?}", done.result)
    };
    assert_eq!(
        commands[0].request.as_deref(),
        Some("Device.LocalAgent.Request.1.")
    );
    assert_eq!(commands[0].output, output);
    assert!(!queue.completed(
        seconds(9),
        DEVICE,
        "1",
        "Device.IP.Diagnostics.IPPing()",
        Ok(output)
    ));
}

#[test]
fn a_completion_that_overtakes_the_acceptance_counts() {
    let mut queue = queue();
    push(&mut queue, "1", operate("Device.X()"));
    sent(&mut queue, START);
    assert!(queue.completed(START, DEVICE, "1", "Device.X()", Ok(BTreeMap::new())));
    assert_eq!(last(&mut queue, "1").state, TaskState::Done);
    assert!(!queue.answered(START, DEVICE, "1", accepted()));
}

#[test]
fn a_completion_from_another_device_or_with_another_key_is_ignored() {
    let mut queue = queue();
    push(&mut queue, "1", operate("Device.X()"));
    sent(&mut queue, START);
    queue.answered(START, DEVICE, "1", accepted());
    assert!(!queue.completed(START, "os::2", "1", "Device.X()", Ok(BTreeMap::new())));
    assert!(!queue.completed(START, DEVICE, "2", "Device.X()", Ok(BTreeMap::new())));
}

#[test]
fn a_failed_completion_fails_the_task() {
    let mut queue = queue();
    push(&mut queue, "1", operate("Device.X()"));
    sent(&mut queue, START);
    queue.answered(START, DEVICE, "1", accepted());
    let error = PathError {
        code: 7022,
        message: "no route".to_owned(),
    };
    queue.completed(START, DEVICE, "1", "Device.X()", Err(error));
    let failed = last(&mut queue, "1");
    assert_eq!(
        (failed.state, failed.error.unwrap().usp_code),
        (TaskState::Failed, Some(7022))
    );
}

#[test]
fn a_completion_that_never_comes_ends_in_an_unknown_outcome() {
    let mut queue = queue();
    push(&mut queue, "1", operate("Device.X()"));
    sent(&mut queue, START);
    queue.answered(START, DEVICE, "1", accepted());
    queue.handle_timeout(seconds(3600));
    let failed = last(&mut queue, "1");
    assert_eq!(failed.error.unwrap().code, TaskErrorCode::UnknownOutcome);
    assert!(
        failed.result.is_some(),
        "the Request object is kept for whoever looks"
    );
}

/// What a restart makes of a task.
fn restarted(record: TaskRecord) -> (Queue, Option<TaskRecord>) {
    let mut queue = Queue::restore(QueueConfig::default(), seconds(10), vec![record]);
    let change = queue.drain_changes().pop();
    (queue, change)
}

#[test]
fn after_a_restart_a_sent_get_is_repeated() {
    let mut record = task("1", DEVICE, get("Device.A"));
    (record.state, record.attempts) = (TaskState::Sent, 1);
    let (mut queue, change) = restarted(record);
    assert_eq!(change.unwrap().state, TaskState::Queued);
    assert_eq!(sent(&mut queue, seconds(10)), ["1"]);
    assert_eq!(queue.task("1").unwrap().attempts, 2);
}

#[test]
fn after_a_restart_a_sent_operate_or_add_is_not_repeated() {
    let add = Operation::Add {
        allow_partial: false,
        objects: Vec::new(),
    };
    for operation in [operate("Device.Reboot()"), add] {
        let mut record = task("1", DEVICE, operation);
        (record.state, record.attempts) = (TaskState::Sent, 1);
        let (mut queue, change) = restarted(record);
        let failed = change.unwrap();
        assert_eq!(failed.state, TaskState::Failed);
        assert_eq!(failed.error.unwrap().code, TaskErrorCode::UnknownOutcome);
        assert!(sent(&mut queue, seconds(1000)).is_empty() && queue.is_empty());
    }
}

#[test]
fn after_a_restart_a_queued_operate_runs() {
    let (mut queue, change) = restarted(task("1", DEVICE, operate("Device.Reboot()")));
    assert_eq!(change, None);
    // Nothing is known of the device's last contact any more: it is probed.
    assert_eq!(sent(&mut queue, seconds(10)), ["probe os::1"]);
    queue.probed(seconds(11), DEVICE, Delivery::Taken);
    assert_eq!(sent(&mut queue, seconds(11)), ["1"]);
}

#[test]
fn after_a_restart_an_accepted_command_still_completes() {
    let mut record = task("1", DEVICE, operate("Device.X()"));
    (record.state, record.attempts, record.result) = (TaskState::Sent, 1, accepted().ok());
    let (mut queue, change) = restarted(record);
    assert_eq!(change, None);
    assert!(sent(&mut queue, seconds(10)).is_empty());
    assert!(queue.completed(seconds(11), DEVICE, "1", "Device.X()", Ok(BTreeMap::new())));
    assert_eq!(last(&mut queue, "1").state, TaskState::Done);
}

#[test]
fn at_its_bounds_the_queue_refuses_and_drops_nothing() {
    let config = QueueConfig {
        per_device: 2,
        total: 3,
        ..QueueConfig::default()
    };
    let mut queue = Queue::restore(config, START, Vec::new());
    push(&mut queue, "1", get("Device.A"));
    push(&mut queue, "2", get("Device.A"));
    let refused = queue.push(task("3", DEVICE, get("Device.A")), None);
    assert_eq!(refused, Err(PushError::DeviceFull(2)));
    queue
        .push(task("4", "os::2", get("Device.A")), None)
        .unwrap();
    assert_eq!(
        queue.push(task("5", "os::3", get("Device.A")), None),
        Err(PushError::Full(3))
    );
    assert_eq!(queue.len(), 3);
}

#[test]
fn removing_a_device_ends_its_tasks() {
    let mut queue = queue();
    push(&mut queue, "1", operate("Device.Reboot()"));
    push(&mut queue, "2", get("Device.A"));
    sent(&mut queue, START);
    queue.drop_device(seconds(1), DEVICE);
    let changes = queue.drain_changes();
    let state = |id: &str| {
        changes
            .iter()
            .rfind(|task| task.id == id)
            .map(|task| task.state)
    };
    assert_eq!(
        (state("1"), state("2")),
        (Some(TaskState::Failed), Some(TaskState::Cancelled))
    );
    assert!(queue.is_empty() && queue.poll_timeout().is_none());
    // What the network still reports finds nothing.
    queue.delivered(seconds(2), "1", Delivery::Taken);
    queue.probed(seconds(2), DEVICE, Delivery::Taken);
    queue.handle_timeout(seconds(2).plus(Duration::from_secs(3600)));
}
