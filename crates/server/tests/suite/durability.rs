//! What was acknowledged survives `kill -9`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use homefleet_server::store::sqlite::SqliteStore;
use homefleet_server::store::{
    Batch, DeviceRecord, Devices as _, Parameters as _, Store as _, Tasks as _, Write,
};

use crate::common::{get, task, value};

const DIRECTORY: &str = "HOMEFLEET_TEST_DURABILITY";

/// One round: a device, its value and a task, in one batch.
fn round(number: u32) -> Batch {
    let id = format!("os::{number:06}");
    Batch(vec![
        Write::Device(Box::new(DeviceRecord {
            id: id.clone(),
            ..DeviceRecord::default()
        })),
        Write::Parameters {
            device: id.clone(),
            values: vec![value("Device.A", &number.to_string())],
            complete: Vec::new(),
        },
        Write::Task(Box::new(task(
            &format!("{number:026}"),
            &id,
            get("Device.A"),
        ))),
    ])
}

/// The process that is killed: writes rounds and says which were acknowledged.
#[test]
#[ignore = "started by acknowledged_writes_survive_kill_9"]
fn helper_writes_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = SqliteStore::open(&std::path::Path::new(&directory).join("store.sqlite")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut out = std::io::stdout();
    for chunk in 0.. {
        // Several at a time, so that group commit is what is tested.
        let writes: Vec<_> = (0..8)
            .map(|place| store.write(round(chunk * 8 + place)))
            .collect();
        for (place, write) in writes.into_iter().enumerate() {
            runtime.block_on(write).unwrap();
            writeln!(
                out,
                "acknowledged {}",
                chunk * 8 + u32::try_from(place).unwrap()
            )
            .unwrap();
            out.flush().unwrap();
        }
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    for rounds in [40, 3, 25] {
        let mut helper = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "durability::helper_writes_until_killed",
                "--nocapture",
            ])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        for line in BufReader::new(helper.stdout.take().unwrap()).lines() {
            // The test harness writes its own words on the same line.
            if let Some((_, number)) = line.unwrap().split_once("acknowledged ") {
                acknowledged.push(number.parse::<u32>().unwrap());
            }
            if acknowledged.len() >= rounds {
                break;
            }
        }
        helper.kill().unwrap();
        helper.wait().unwrap();

        let store = SqliteStore::open(&directory.path().join("store.sqlite")).unwrap();
        let devices = store.devices().await.unwrap();
        for number in acknowledged {
            let id = format!("os::{number:06}");
            assert!(
                devices.iter().any(|device| device.id == id),
                "{id} was acknowledged and is gone"
            );
        }
        // A batch is there completely or not at all, also those not acknowledged.
        for device in devices {
            let number: u32 = device.id.trim_start_matches("os::").parse().unwrap();
            let values = store.parameters(&device.id, "", None, 10).await.unwrap();
            assert_eq!(
                values,
                [value("Device.A", &number.to_string())],
                "{}",
                device.id
            );
            assert!(
                store
                    .task(&format!("{number:026}"))
                    .await
                    .unwrap()
                    .is_some(),
                "{}",
                device.id
            );
        }
    }
}
