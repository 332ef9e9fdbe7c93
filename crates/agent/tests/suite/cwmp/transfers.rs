//! Files, and what else comes after its answer (TR-069 A.3.2.8, A.4.1).

use std::time::Duration;

use homefleet_agent::{
    cwmp::{AcsAction, AcsEvent, Content, Discovered, FileDone, TransferJob},
    store::Store,
};
use homefleet_cwmp::{
    FaultCode, Message, ValueType,
    message::{
        CancelTransfer, ChangeDUState, Download, GetAllQueuedTransfers, GetOptions,
        GetQueuedTransfers, Install, Kicked, Operation, RequestDownload, ScheduleDownload,
        SetVouchers, TimeWindow, TransferCompleteResponse, TransferState, Upload,
    },
};

use super::{
    call, codes, decode, end, fault, happen, inform, posted, send, session, set, settled, speaks,
    started, with,
};
use crate::bench::Bench;

fn download(key: &str, file_type: &str) -> Download {
    Download {
        command_key: key.into(),
        file_type: file_type.into(),
        url: "http://files.example.net/f".into(),
        username: "device".into(),
        password: "word".into(),
        ..Download::default()
    }
}

const FIRMWARE: &str = "1 Firmware Upgrade Image";

fn job(bench: &mut Bench) -> TransferJob {
    let is_job = |action: &AcsAction| matches!(action, AcsAction::Transfer(_));
    let at = bench.acs.iter().position(is_job).expect("a transfer");
    match bench.acs.remove(at) {
        AcsAction::Transfer(job) => job,
        _ => unreachable!(),
    }
}

fn done(bench: &mut Bench, id: u64, done: FileDone) {
    happen(bench, AcsEvent::File { id, done });
}

/// The session that tells the end of a transfer: the codes of its Inform, its CommandKey and its fault.
fn told(bench: &mut Bench) -> (Vec<String>, String, u32) {
    let informed = inform(bench);
    let envelope = decode(&posted(bench));
    let Message::TransferComplete(complete) = envelope.message else {
        panic!("{:?}", envelope.message)
    };
    send(bench, envelope.header.id, TransferCompleteResponse {});
    assert_eq!(posted(bench), b"");
    end(bench);
    (
        codes(&informed),
        complete.command_key,
        complete.fault.code.0,
    )
}

#[test]
fn a_download_is_fetched_after_the_session_installed_and_told_until_it_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let open = || started(with(|_| {}), Store::open(directory.path()).unwrap());
    let mut bench = open();
    session(&mut bench, []);
    happen(&mut bench, AcsEvent::Called);
    inform(&mut bench);
    posted(&mut bench);
    let answer = super::ask(&mut bench, download("up-1", "3 Vendor Configuration File"));
    assert!(matches!(answer, Message::DownloadResponse(_)));
    let Message::GetAllQueuedTransfersResponse(queued) =
        super::ask(&mut bench, GetAllQueuedTransfers {})
    else {
        panic!("no list")
    };
    assert_eq!(queued.transfers.len(), 1);
    assert_eq!(queued.transfers[0].state, TransferState::NotYetStarted);
    assert!(
        !bench
            .acs
            .iter()
            .any(|action| matches!(action, AcsAction::Transfer(_)))
    );
    end(&mut bench);
    let job = job(&mut bench);
    assert!(job.content == Content::Fetch);
    assert_eq!(
        (job.url.as_str(), job.password.reveal()),
        ("http://files.example.net/f", "word")
    );
    done(&mut bench, job.id, FileDone::Fetched);
    let install = AcsAction::Install {
        id: job.id,
        file_type: "3 Vendor Configuration File".into(),
        target: String::new(),
    };
    assert!(bench.acs.contains(&install));
    done(&mut bench, job.id, FileDone::Complete);
    assert!(speaks(&bench), "it is told, and nobody answers");
    drop(bench);
    let mut bench = open();
    let told = told(&mut bench);
    assert_eq!(told.0, ["1 BOOT", "7 TRANSFER COMPLETE", "M Download"]);
    assert_eq!((told.1.as_str(), told.2), ("up-1", 0));
    assert!(!speaks(&bench));
}

#[test]
fn a_failed_transfer_is_told_with_its_fault_and_one_that_was_cut_off_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    let open = || started(with(|_| {}), Store::open(directory.path()).unwrap());
    let mut bench = open();
    session(&mut bench, []);
    call(&mut bench, download("up-2", FIRMWARE));
    let first = job(&mut bench);
    drop(bench);
    let mut bench = open();
    session(&mut bench, []);
    let again = job(&mut bench);
    assert_eq!(again.id, first.id);
    let failed = FileDone::Failed(FaultCode::TRANSFER_AUTHENTICATION, "no".into());
    done(&mut bench, again.id, failed);
    let told = told(&mut bench);
    assert_eq!(told.0, ["7 TRANSFER COMPLETE", "M Download"]);
    assert_eq!((told.1.as_str(), told.2), ("up-2", 9012));
}

#[test]
fn firmware_that_took_the_device_down_is_judged_by_what_runs_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let open = || started(with(|_| {}), Store::open(directory.path()).unwrap());
    let mut bench = open();
    session(&mut bench, []);
    call(&mut bench, download("up-3", FIRMWARE));
    let job = job(&mut bench);
    done(&mut bench, job.id, FileDone::Fetched);
    drop(bench);
    // The bench has no other software after it: the installation has failed, and is not begun again for ever.
    let mut bench = open();
    let told = told(&mut bench);
    assert_eq!((told.1.as_str(), told.2), ("up-3", 9010));
    assert!(
        !bench
            .acs
            .iter()
            .any(|action| matches!(action, AcsAction::Transfer(_)))
    );
}

#[test]
fn delayed_transfers_wait_can_be_cancelled_and_are_bounded() {
    let mut bench = settled();
    let delayed = |key: &str| Download {
        delay_seconds: 60,
        ..download(key, FIRMWARE)
    };
    for number in 0..16 {
        let answer = call(&mut bench, delayed(&format!("key-{number}")));
        assert!(matches!(answer, Message::DownloadResponse(_)), "{number}");
    }
    assert_eq!(fault(call(&mut bench, delayed("more"))).code.0, 9004);
    let cancel = |key: &str| CancelTransfer {
        command_key: key.into(),
    };
    for number in 1..16 {
        let answer = call(&mut bench, cancel(&format!("key-{number}")));
        assert!(matches!(answer, Message::CancelTransferResponse(_)));
    }
    let Message::GetQueuedTransfersResponse(queued) = call(&mut bench, GetQueuedTransfers {})
    else {
        panic!("no list")
    };
    assert_eq!(queued.transfers.len(), 1);
    bench.pass(Duration::from_secs(61));
    let job = job(&mut bench);
    assert_eq!(fault(call(&mut bench, cancel("key-0"))).code.0, 9021);
    let failed = FileDone::Failed(FaultCode::TRANSFER_CONTACT, "away".into());
    done(&mut bench, job.id, failed);
    assert_eq!(told(&mut bench).2, 9015);
}

#[test]
fn what_no_device_could_transfer_is_refused_at_once() {
    let mut bench = settled();
    for (change, expected) in [
        (("ftp://files/f", FIRMWARE), 9013),
        (("http://user:word@files/f", FIRMWARE), 9003),
        (("http:///f", FIRMWARE), 9003),
        (("http://files/f", "9 Teapot"), 9003),
    ] {
        let (url, file_type) = change;
        let request = Download {
            url: url.into(),
            ..download("key", file_type)
        };
        assert_eq!(
            fault(call(&mut bench, request)).code.0,
            expected,
            "{change:?}"
        );
    }
    let long = download(&"k".repeat(33), FIRMWARE);
    assert_eq!(fault(call(&mut bench, long)).code.0, 9003);
}

#[test]
fn an_upload_sends_the_settings_without_secrets() {
    let mut bench = settled();
    call(
        &mut bench,
        set(&[
            ("Device.X_Test.Label", ValueType::String, "here"),
            ("Device.X_Test.Password", ValueType::String, "hidden"),
        ]),
    );
    let upload = Upload {
        command_key: "conf".into(),
        file_type: "1 Vendor Configuration File".into(),
        url: "https://files.example.net/conf".into(),
        ..Upload::default()
    };
    call(&mut bench, upload);
    let job = job(&mut bench);
    let Content::Send(bytes) = job.content else {
        panic!("nothing to send")
    };
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains(r#""Device.X_Test.Label":"here""#), "{text}");
    assert!(!text.contains("hidden") && !text.contains("Counter") && !text.contains("LocalAgent"));
    done(&mut bench, job.id, FileDone::Complete);
    let told = told(&mut bench);
    assert_eq!(told.0, ["7 TRANSFER COMPLETE", "M Upload"]);
}

#[test]
fn a_scheduled_download_is_tried_within_its_windows_only() {
    let mut bench = settled();
    let window = |start, end| TimeWindow {
        start,
        end,
        mode: "1 At Any Time".into(),
        max_retries: 1,
        ..TimeWindow::default()
    };
    let request = |windows| ScheduleDownload {
        command_key: "night".into(),
        file_type: FIRMWARE.into(),
        url: "http://files/f".into(),
        windows,
        ..ScheduleDownload::default()
    };
    for windows in [
        vec![],
        vec![window(60, 60)],
        vec![window(0, 100), window(50, 150)],
    ] {
        assert_eq!(fault(call(&mut bench, request(windows))).code.0, 9003);
    }
    let confirmed = TimeWindow {
        mode: "4 Confirmation Needed".into(),
        ..window(0, 10)
    };
    assert_eq!(
        fault(call(&mut bench, request(vec![confirmed]))).code.0,
        9003
    );
    call(&mut bench, request(vec![window(60, 120), window(600, 700)]));
    let failed = || FileDone::Failed(FaultCode::TRANSFER_CONTACT, "away".into());
    for wait in [60, 30, 510, 30] {
        assert!(
            !bench
                .acs
                .iter()
                .any(|action| matches!(action, AcsAction::Transfer(_)))
        );
        bench.pass(Duration::from_secs(wait));
        let job = job(&mut bench);
        assert!(!speaks(&bench), "it is not over after a first failure");
        done(&mut bench, job.id, failed());
    }
    let told = told(&mut bench);
    assert_eq!(told.0, ["7 TRANSFER COMPLETE", "M ScheduleDownload"]);
    assert_eq!(told.2, 9015);
}

#[test]
fn deployment_units_have_no_place_here_and_that_is_told() {
    let mut bench = settled();
    let request = ChangeDUState {
        operations: vec![Operation::Install(Install {
            url: "http://files/unit".into(),
            ..Install::default()
        })],
        command_key: "du".into(),
    };
    let answer = call(&mut bench, request);
    assert!(matches!(answer, Message::ChangeDUStateResponse(_)));
    let informed = inform(&mut bench);
    assert_eq!(
        codes(&informed),
        ["11 DU STATE CHANGE COMPLETE", "M ChangeDUState"]
    );
    let envelope = decode(&posted(&mut bench));
    let Message::DUStateChangeComplete(complete) = envelope.message else {
        panic!("{:?}", envelope.message)
    };
    assert_eq!(complete.results[0].fault.code.0, 9023);
}

#[test]
fn there_are_no_options_and_no_voucher_gives_one() {
    let mut bench = settled();
    let Message::GetOptionsResponse(options) = call(&mut bench, GetOptions::default()) else {
        panic!("no options")
    };
    assert!(options.options.is_empty());
    let vouchers = SetVouchers {
        vouchers: vec![b"voucher".to_vec()],
    };
    assert_eq!(fault(call(&mut bench, vouchers)).code.0, 9001);
}

#[test]
fn requests_of_the_devices_own_bring_their_events() {
    let mut bench = settled();
    let requests: [(Message, &str); 2] = [
        (
            RequestDownload {
                file_type: "2 Web Content".into(),
                arguments: Vec::new(),
            }
            .into(),
            "9 REQUEST DOWNLOAD",
        ),
        (Kicked::default().into(), "5 KICKED"),
    ];
    for (request, event) in requests {
        bench
            .engine
            .handle_own_request(bench.now, request.clone())
            .unwrap();
        bench.drain();
        let informed = inform(&mut bench);
        assert_eq!(codes(&informed), [event]);
        let envelope = decode(&posted(&mut bench));
        assert_eq!(envelope.message.name(), request.name());
        let answer: Message = match request {
            Message::Kicked(_) => homefleet_cwmp::message::KickedResponse::default().into(),
            _ => homefleet_cwmp::message::RequestDownloadResponse {}.into(),
        };
        send(&mut bench, envelope.header.id, answer);
        assert_eq!(posted(&mut bench), b"");
        end(&mut bench);
    }
}

#[test]
fn a_ping_that_the_acs_requests_runs_after_the_session_and_is_told() {
    let mut bench = settled();
    let object = "Device.IP.Diagnostics.IPPing.";
    let name = |name: &str| format!("{object}{name}");
    call(
        &mut bench,
        set(&[
            (&name("Host"), ValueType::String, "127.0.0.1"),
            (&name("DiagnosticsState"), ValueType::String, "Requested"),
        ]),
    );
    // The bench's device cannot ping, and says so.
    let (informed, []) = session(&mut bench, []);
    assert_eq!(codes(&informed), ["8 DIAGNOSTICS COMPLETE"]);
    assert_eq!(
        super::value(&mut bench, &name("DiagnosticsState")),
        "Error_Other"
    );
}

#[test]
fn dhcp_names_the_acs_where_nobody_else_has() {
    let found = |url: &str| {
        AcsEvent::Discovered(Discovered {
            url: Some(url.into()),
            minimum_wait: Some(9),
            ..Discovered::default()
        })
    };
    let mut bench = started(
        with(|cwmp| cwmp.url = String::new()),
        Store::in_memory().unwrap(),
    );
    assert!(!speaks(&bench));
    happen(&mut bench, found("http://one/"));
    super::ready(&mut bench);
    let (informed, []) = session(&mut bench, []);
    assert_eq!(codes(&informed), ["0 BOOTSTRAP", "1 BOOT"]);
    let name = "Device.ManagementServer.URL";
    assert_eq!(super::value(&mut bench, name), "http://one/");
    let wait = "Device.ManagementServer.CWMPRetryMinimumWaitInterval";
    assert_eq!(super::value(&mut bench, wait), "9");
    happen(&mut bench, found("http://two/"));
    super::ready(&mut bench);
    let (informed, []) = session(&mut bench, []);
    assert_eq!(codes(&informed), ["0 BOOTSTRAP"]);
    call(
        &mut bench,
        set(&[(name, ValueType::String, "http://three/")]),
    );
    super::ready(&mut bench);
    session(&mut bench, []);
    happen(&mut bench, found("http://four/"));
    assert_eq!(
        super::value(&mut bench, name),
        "http://three/",
        "the ACS said so"
    );
}
