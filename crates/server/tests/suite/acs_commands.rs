//! Commands of devices that speak TR-069.

use std::collections::BTreeMap;

use homefleet_api::{Operation, Task, TaskErrorCode, TaskResult, TaskState};
use homefleet_cwmp::message::{
    DUStateChangeComplete, Kicked, Notification, OperationResult, UnitFault, UnitState,
};
use homefleet_cwmp::{EventCode, FaultCode, Method};

use crate::acs::{acs, get, operate};
use crate::cpe::{Cpe, End};

const FIRMWARE: &str = "1 Firmware Upgrade Image";

fn output(task: &Task) -> BTreeMap<String, String> {
    let Some(TaskResult::Operate { commands }) = &task.result else {
        panic!("{task:?}")
    };
    commands[0].output.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_is_a_command() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let ssid = "Device.WiFi.SSID.1.SSID";
    for (command, args, asked, told) in [
        (
            "ScheduleInform()",
            &[("DelaySeconds", "60")][..],
            "ScheduleInform",
            &[][..],
        ),
        (
            "GetQueuedTransfers()",
            &[],
            "GetQueuedTransfers",
            &[
                ("Transfer.1.CommandKey", "key-1"),
                ("Transfer.1.State", "InProgress"),
            ],
        ),
        (
            "GetAllQueuedTransfers()",
            &[],
            "GetAllQueuedTransfers",
            &[
                ("Transfer.1.IsDownload", "true"),
                ("Transfer.1.FileType", "3 Vendor Configuration File"),
            ],
        ),
        (
            "GetOptions()",
            &[("OptionName", "voice")],
            "GetOptions",
            &[
                ("Option.1.OptionName", "voice"),
                ("Option.1.VoucherSN", "7"),
            ],
        ),
        (
            "SetVouchers()",
            &[("Voucher", "PHZvdWNoZXIvPg==")],
            "SetVouchers",
            &[],
        ),
        (
            "SetParameterAttributes()",
            &[("Path", ssid), ("Notification", "2")],
            "SetParameterAttributes",
            &[],
        ),
        (
            "GetParameterAttributes()",
            &[("Path", ssid)],
            "GetParameterAttributes",
            &[
                ("Device.WiFi.SSID.1.SSID.Notification", "2"),
                ("Device.WiFi.SSID.1.SSID.AccessList", "Subscriber"),
            ],
        ),
    ] {
        let task = acs
            .run(&mut cpe, operate(&format!("Device.{command}"), args))
            .await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        assert_eq!(cpe.asked.last(), Some(&asked));
        let output = output(&task);
        for (name, value) in told {
            assert_eq!(
                output.get(*name).map(String::as_str),
                Some(*value),
                "{output:?}"
            );
        }
    }
    assert_eq!(cpe.attributes[ssid].notification, Notification::Active);
    assert!(!cpe.attributes[ssid].access_list_change);
    let methods = acs
        .run(&mut cpe, operate("Device.GetRPCMethods()", &[]))
        .await;
    assert!(output(&methods)["Methods"].contains("GetParameterValues"));
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_without_what_it_needs_is_refused_before_it_is_sent() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let asked = cpe.asked.len();
    let url = ("URL", "http://files/f");
    let kind = ("FileType", FIRMWARE);
    for (command, args, missing) in [
        ("Download()", &[kind][..], "URL"),
        ("Download()", &[url], "FileType"),
        ("Download()", &[url, kind, ("FileSize", "-1")], "FileSize"),
        ("ScheduleDownload()", &[url, kind], "TimeWindow.1.Start"),
        (
            "ScheduleDownload()",
            &[
                url,
                kind,
                ("TimeWindow.1.Start", "9"),
                ("TimeWindow.1.End", "9"),
            ],
            "before",
        ),
        ("CancelTransfer()", &[], "CommandKey"),
        ("SetVouchers()", &[("Voucher", "!")], "base64"),
        ("InstallDU()", &[], "URL"),
        ("Uninstall()", &[], "UUID"),
        (
            "SetParameterAttributes()",
            &[("Path", "Device.A")],
            "Notification",
        ),
        (
            "SetParameterAttributes()",
            &[("Path", "Device.A"), ("Notification", "7")],
            "0 to 6",
        ),
        ("GetParameterAttributes()", &[], "Path"),
        ("Dance()", &[], "no such command"),
    ] {
        let task = acs
            .run(&mut cpe, operate(&format!("Device.{command}"), args))
            .await;
        let error = task.error.unwrap();
        assert_eq!(error.code, TaskErrorCode::InvalidRequest, "{error:?}");
        assert!(error.message.contains(missing), "{command}: {error:?}");
    }
    assert_eq!(cpe.asked.len(), asked);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_download_is_taken_back() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let args = [
        ("FileType", FIRMWARE),
        ("URL", "http://files/f"),
        ("TimeWindow.1.Start", "10"),
        ("TimeWindow.1.End", "3600"),
    ];
    let task = acs.task(operate("Device.ScheduleDownload()", &args)).await;
    cpe.session(EventCode::Periodic).await;
    assert_eq!(cpe.urls, [("http://files/f".to_owned(), 3600)]);
    let open = acs.access.task(&task.id).await.unwrap();
    assert_eq!(open.state, TaskState::Sent, "{open:?}");
    let cancel = Operation::Operate {
        command: "Device.CancelTransfer()".to_owned(),
        args: [("CommandKey".to_owned(), "key-1".to_owned())].into(),
        command_key: None,
    };
    assert_eq!(acs.run(&mut cpe, cancel).await.state, TaskState::Done);
    let ended = acs.ended(&task).await;
    assert_eq!(ended.state, TaskState::Failed);
    assert!(ended.error.unwrap().message.contains("cancelled"));
    acs.server.stop().await;
}

async fn units(cpe: &mut Cpe, code: u32) {
    let done = DUStateChangeComplete {
        results: vec![OperationResult {
            uuid: "u-u-i-d".to_owned(),
            version: "1.2".to_owned(),
            state: UnitState::Installed,
            fault: UnitFault {
                code: FaultCode(code),
                text: "so it was".to_owned(),
            },
            ..OperationResult::default()
        }],
        command_key: "key-1".to_owned(),
    };
    cpe.machine
        .queue(done.into(), Some(Method::ChangeDuState))
        .unwrap();
    assert_eq!(cpe.run().await, End::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn software_is_changed_by_the_commands_of_tr_181() {
    use homefleet_cwmp::message::Operation as Unit;
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let url = [("URL", "http://files/unit")];
    let task = acs
        .task(operate("Device.SoftwareModules.InstallDU()", &url))
        .await;
    cpe.session(EventCode::Periodic).await;
    assert!(
        matches!(&cpe.units[0].operations[0], Unit::Install(install) if install.url == url[0].1)
    );
    units(&mut cpe, 0).await;
    let ended = acs.ended(&task).await;
    assert_eq!(ended.state, TaskState::Done);
    assert_eq!(output(&ended)["Result.1.Version"], "1.2");

    let unit = "Device.SoftwareModules.DeploymentUnit.3.Uninstall()";
    let task = acs.task(operate(unit, &[])).await;
    cpe.session(EventCode::Periodic).await;
    let Unit::Uninstall(uninstall) = &cpe.units[1].operations[0] else {
        panic!("{:?}", cpe.units)
    };
    assert_eq!(uninstall.uuid, "u-u-i-d");
    assert_eq!(uninstall.version.as_deref(), Some("1.1"));
    units(&mut cpe, 9024).await;
    let error = acs.ended(&task).await.error.unwrap();
    assert_eq!(
        (error.usp_code, error.message.as_str()),
        (Some(9024), "so it was")
    );
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diagnostic_is_a_command_that_ends_when_the_device_says_so() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let ping = |name: &str| format!("Device.IP.Diagnostics.IPPing.{name}");
    for (state, succeeds) in [("Complete", true), ("Error_CannotResolveHostName", false)] {
        let args = [("Host", "192.0.2.1"), ("NumberOfRepetitions", "3")];
        let task = acs
            .task(operate("Device.IP.Diagnostics.IPPing()", &args))
            .await;
        cpe.session(EventCode::Periodic).await;
        assert_eq!(cpe.value(&ping("DiagnosticsState")), "Requested");
        assert_eq!(cpe.value(&ping("NumberOfRepetitions")), "3");
        // Told too early, it goes on.
        cpe.session(EventCode::DiagnosticsComplete).await;
        let open = acs.access.task(&task.id).await.unwrap();
        assert_eq!(open.state, TaskState::Sent, "{open:?}");
        cpe.set(&ping("DiagnosticsState"), state);
        cpe.set(&ping("SuccessCount"), "3");
        cpe.session(EventCode::DiagnosticsComplete).await;
        let ended = acs.ended(&task).await;
        if succeeds {
            assert_eq!(ended.state, TaskState::Done);
            let output = output(&ended);
            assert_eq!(output["SuccessCount"], "3");
            assert!(!output.contains_key("Host"), "what was asked is not told");
        } else {
            assert_eq!(ended.state, TaskState::Failed);
            assert_eq!(ended.error.unwrap().message, state);
        }
    }
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_was_kicked_goes_where_the_operator_says() {
    let acs = acs(|config| {
        config.acs.kicked_url = Some("https://acs.example.com/".to_owned());
    })
    .await;
    let mut cpe = acs.cpe();
    let kicked = Kicked {
        next: "https://elsewhere.example.com/".to_owned(),
        ..Kicked::default()
    };
    cpe.machine.queue(kicked.into(), None).unwrap();
    assert_eq!(cpe.run().await, End::Done);
    assert_eq!(cpe.kicked_to.as_deref(), Some("https://acs.example.com/"));
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_model_becomes_known_a_little_in_each_session() {
    let acs = acs(|config| config.acs.discover = 2).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let ssid = "Device.WiFi.SSID.2.SSID";
    assert_eq!(acs.stored(ssid).await, None);
    let mut sessions = 0;
    while acs.stored(ssid).await.is_none() {
        sessions += 1;
        assert!(sessions < 20, "{:?}", cpe.asked);
        let asked = cpe.asked.len();
        // What an operator wants goes first, and is done in the same session.
        let task = acs.task(get("Device.DeviceInfo.UpTime")).await;
        assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
        assert_eq!(acs.ended(&task).await.state, TaskState::Done);
        assert_eq!(cpe.asked.get(asked), Some(&"GetParameterValues"));
        let listed = cpe.asked[asked..].iter();
        assert!(
            listed
                .filter(|asked| **asked == "GetParameterNames")
                .count()
                <= 2
        );
    }
    assert!(sessions > 1);
    loop {
        let asked = cpe.asked.len();
        assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
        if cpe.asked.len() == asked {
            break;
        }
        sessions += 1;
        assert!(sessions < 40, "{:?}", cpe.asked);
    }
    // All of it is known, and it stays at that.
    let count = acs
        .access
        .device(crate::cpe::ID)
        .await
        .unwrap()
        .parameter_count;
    assert_eq!(count, cpe.model.len() as u64);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_operator_wants_to_be_told_of_is_asked_for_at_first() {
    let acs = acs(|config| {
        config.subscribe.value_change = vec![
            "Device.Nothing.Name".to_owned(),
            "Device.WiFi.SSID.1.SSID".to_owned(),
            "Device.WiFi.SSID.*.Enable".to_owned(),
        ];
    })
    .await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let told: Vec<_> = cpe.attributes.iter().collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "Device.WiFi.SSID.1.SSID");
    assert_eq!(told[0].1.notification, Notification::Active);
    let asked = cpe.asked.len();
    cpe.session(EventCode::Periodic).await;
    assert_eq!(cpe.asked.len(), asked);
    acs.server.stop().await;
}
