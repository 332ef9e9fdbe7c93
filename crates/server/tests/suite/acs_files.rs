//! Files that devices fetch and send.

use std::collections::BTreeMap;
use std::path::PathBuf;

use homefleet_api::{Operation, Role, Task, TaskErrorCode, TaskResult, TaskState};
use homefleet_cwmp::message::{TransferComplete, TransferFault};
use homefleet_cwmp::{EventCode, FaultCode, Method};
use homefleet_server::Server;

use crate::acs::{Acs, acs};
use crate::acs_bad::{Answer, Raw};
use crate::cpe::{Cpe, End};
use crate::live::access;

const FIRMWARE: &str = "1 Firmware Upgrade Image";

/// An ACS with a directory of files, in which is `fw.bin`.
async fn with_files() -> (Acs, PathBuf) {
    let mut place = PathBuf::new();
    let acs = acs(|config| {
        let directory = config.data_dir.with_file_name("files");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("fw.bin"), firmware()).unwrap();
        config.acs.files = Some(directory.clone());
        config.acs.max_upload = 1000;
        place = directory;
    })
    .await;
    (acs, place)
}

/// More than one piece.
fn firmware() -> Vec<u8> {
    (0..200_000_u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
        .collect()
}

/// Without a key of the operator's: the task's ID is the key.
fn command(name: &str, args: &[(&str, &str)]) -> Operation {
    let args = args.iter();
    Operation::Operate {
        command: name.to_owned(),
        args: args
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        command_key: None,
    }
}

fn download(file: &str) -> Operation {
    command(
        "Device.Download()",
        &[("FileType", FIRMWARE), ("File", file)],
    )
}

fn upload() -> Operation {
    command("Device.Upload()", &[("FileType", "2 Vendor Log File")])
}

/// The path of the URL that a device was told last.
fn told(cpe: &Cpe) -> String {
    let (url, _) = cpe.urls.last().unwrap();
    let rest = url.strip_prefix("http://acs/").expect(url);
    format!("/{rest}")
}

async fn ask(acs: &Acs, what: &str, headers: &str, body: &[u8]) -> Answer {
    let headers = match body.len() {
        0 => headers.to_owned(),
        length => format!("{headers}Content-Length: {length}\r\n"),
    };
    Raw::to(acs).await.ask(what, &headers, body).await
}

async fn tells(cpe: &mut Cpe, task: &Task, code: u32) {
    let done = TransferComplete {
        command_key: task.id.clone(),
        fault: TransferFault {
            code: FaultCode(code),
            text: "so it was".to_owned(),
        },
        ..TransferComplete::default()
    };
    cpe.machine
        .queue(done.into(), Some(Method::Download))
        .unwrap();
    assert_eq!(cpe.run().await, End::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_fetches_a_file_whole_or_the_rest_of_it() {
    let (acs, _) = with_files().await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let task = acs.task(download("fw.bin")).await;
    cpe.session(EventCode::Periodic).await;
    assert_eq!(
        cpe.urls.last().unwrap().1,
        200_000,
        "it is told how long it is"
    );
    let path = told(&cpe);
    let get = format!("GET {path}");
    let whole = ask(&acs, &get, "", b"").await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.body, firmware());
    let tag = whole.value("etag").unwrap();
    assert!(whole.head.contains("accept-ranges: bytes"));
    assert!(whole.value("repr-digest").unwrap().starts_with("sha-256=:"));
    // It broke off at 150,000.
    let rest = format!("Range: bytes=150000-\r\nIf-Range: {tag}\r\n");
    let rest = ask(&acs, &get, &rest, b"").await;
    assert_eq!(rest.status, 206);
    assert_eq!(
        rest.value("content-range"),
        Some("bytes 150000-199999/200000")
    );
    assert_eq!(rest.body, firmware()[150_000..]);
    // Of another file than it has a part of, it gets all.
    let other = "Range: bytes=150000-\r\nIf-Range: \"other\"\r\n";
    assert_eq!(ask(&acs, &get, other, b"").await.status, 200);
    let beyond = ask(&acs, &get, "Range: bytes=200000-\r\n", b"").await;
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.value("content-range"), Some("bytes */200000"));
    let known = format!("If-None-Match: {tag}\r\n");
    assert_eq!(ask(&acs, &get, &known, b"").await.status, 304);
    let head = ask(&acs, &format!("HEAD {path}"), "", b"").await;
    assert_eq!(head.value("content-length"), Some("200000"));
    assert_eq!(
        ask(&acs, &format!("PUT {path}"), "", b"x").await.status,
        405
    );
    tells(&mut cpe, &task, 0).await;
    assert_eq!(acs.ended(&task).await.state, TaskState::Done);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_fetches_a_file_without_the_url_of_an_open_task() {
    let (acs, place) = with_files().await;
    std::fs::write(place.join("other.bin"), "other").unwrap();
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let task = acs.task(download("fw.bin")).await;
    cpe.session(EventCode::Periodic).await;
    let path = told(&cpe);
    let parts: Vec<&str> = path.split('/').collect();
    let [_, files, id, tag, _] = parts.as_slice() else {
        panic!("{path}")
    };
    let forged = "0".repeat(tag.len());
    for wrong in [
        format!("/{files}/{id}/{forged}/fw.bin"),
        format!("/{files}/{id}/{tag}/other.bin"),
        format!("/{files}/{id}/{tag}/../store.sqlite"),
        format!("/{files}/other/{tag}/fw.bin"),
        format!("/{files}/{id}/{tag}"),
        format!("/{files}/{id}"),
        format!("/{files}/"),
    ] {
        let answer = ask(&acs, &format!("GET {wrong}"), "", b"").await;
        assert_eq!(answer.status, 404, "{wrong}");
    }
    assert_eq!(acs.server.acs().unwrap().counters().refused_files, 7);
    let get = format!("GET {path}");
    assert_eq!(ask(&acs, &get, "", b"").await.status, 200);
    tells(&mut cpe, &task, 0).await;
    acs.ended(&task).await;
    assert_eq!(ask(&acs, &get, "", b"").await.status, 404);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_of_ours_is_told_to_the_operator() {
    let (acs, place) = with_files().await;
    std::os::unix::fs::symlink("/etc/passwd", place.join("link")).unwrap();
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    for wrong in [
        "missing.bin",
        "../data/store.sqlite",
        "uploads",
        "link",
        ".hidden",
    ] {
        let task = acs.run(&mut cpe, download(wrong)).await;
        let error = task.error.unwrap();
        assert_eq!(error.code, TaskErrorCode::InvalidRequest, "{error:?}");
        assert!(error.message.contains(wrong), "{error:?}");
    }
    assert!(cpe.urls.is_empty());
    acs.server.stop().await;
    // Nor where there are no files at all.
    let acs = crate::acs::acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let task = acs.run(&mut cpe, download("fw.bin")).await;
    assert!(task.error.unwrap().message.contains("acs.files"));
    assert_eq!(ask(&acs, "GET /files/a/b/c", "", b"").await.status, 404);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_over_a_restart_of_the_server() {
    let (mut acs, _) = with_files().await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let task = acs.task(download("fw.bin")).await;
    cpe.session(EventCode::Periodic).await;
    let path = told(&cpe);
    acs.server.stop().await;
    acs.server = Server::start(acs.config.clone()).await.unwrap();
    acs.access = access(&acs.server, Role::Admin).await;
    cpe.acs = acs.server.acs_addr().unwrap();
    let whole = ask(&acs, &format!("GET {path}"), "", b"").await;
    assert_eq!(whole.body, firmware());
    tells(&mut cpe, &task, 0).await;
    assert_eq!(acs.ended(&task).await.state, TaskState::Done);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_failed_fails_its_task() {
    let (acs, _) = with_files().await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let task = acs.task(download("fw.bin")).await;
    cpe.session(EventCode::Periodic).await;
    tells(&mut cpe, &task, 9010).await;
    let ended = acs.ended(&task).await;
    assert_eq!(ended.state, TaskState::Failed);
    let error = ended.error.unwrap();
    assert_eq!(
        (error.usp_code, error.message.as_str()),
        (Some(9010), "so it was")
    );
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_sends_a_file_whole_or_piece_by_piece() {
    let (acs, place) = with_files().await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    for pieces in [false, true] {
        let task = acs.task(upload()).await;
        cpe.session(EventCode::Periodic).await;
        let path = told(&cpe);
        let put = format!("PUT {path}");
        if pieces {
            let piece = |range: &str| format!("Content-Range: bytes {range}\r\n");
            let sent = ask(&acs, &put, &piece("0-3/11"), b"some").await;
            assert_eq!(sent.status, 204);
            // It went on where it was not.
            let gap = ask(&acs, &put, &piece("5-10/11"), b"things").await;
            assert_eq!(gap.status, 416);
            assert_eq!(gap.value("content-range"), Some("bytes */4"));
            let there = ask(&acs, &format!("HEAD {path}"), "", b"").await;
            assert_eq!(there.value("content-length"), Some("4"));
            // Less than it said.
            let less = ask(&acs, &put, &piece("0-3/11"), b"so").await;
            assert_eq!(less.status, 400);
            assert_eq!(ask(&acs, &put, &piece("0-3/11"), b"some").await.status, 204);
            let digest = "Repr-Digest: sha-256=:QIcmQ1fhHE9e6L7N4rQRIxTFoMcJz/b8bbVEt/F5bWs=:\r\n";
            let wrong = format!("{}{digest}", piece("4-10/11"));
            assert_eq!(ask(&acs, &put, &wrong, b" things").await.status, 400);
            assert_eq!(ask(&acs, &put, "", b"some things").await.status, 201);
        } else {
            assert_eq!(ask(&acs, &put, "", &[b'x'; 1001]).await.status, 413);
            let chunks = "Transfer-Encoding: chunked\r\n";
            let long = [b"7d0\r\n".as_slice(), &[b'x'; 2000], b"\r\n0\r\n\r\n"].concat();
            let long = Raw::to(&acs).await.ask(&put, chunks, &long).await;
            assert_eq!(long.status, 413);
            assert_eq!(ask(&acs, &put, "", b"some things").await.status, 201);
        }
        tells(&mut cpe, &task, 0).await;
        let ended = acs.ended(&task).await;
        let Some(TaskResult::Operate { commands }) = ended.result else {
            panic!("{ended:?}")
        };
        let output = &commands[0].output;
        assert_eq!(output["Size"], "11");
        assert_eq!(output["SHA256"].len(), 64);
        let kept = std::fs::read(place.join(&output["File"])).unwrap();
        assert_eq!(kept, b"some things");
        // Once is enough.
        assert_eq!(ask(&acs, &put, "", b"others").await.status, 404);
    }
    assert_eq!(acs.server.acs().unwrap().counters().uploads, 2);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_says_it_has_sent_what_never_came_is_not_believed() {
    let (acs, _) = with_files().await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let task = acs.task(upload()).await;
    cpe.session(EventCode::Periodic).await;
    tells(&mut cpe, &task, 0).await;
    let ended = acs.ended(&task).await;
    assert_eq!(ended.state, TaskState::Failed);
    assert!(ended.error.unwrap().message.contains("none came"));
    acs.server.stop().await;
}
