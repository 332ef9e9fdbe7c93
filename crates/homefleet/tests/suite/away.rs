//! A device that is not there: the task is kept, the person is told, nothing hangs.

use std::net::SocketAddr;
use std::time::Duration;

use homefleet_cli::demo::Home;

use crate::support::{Ran, command, finish, fresh_dir, world};

#[test]
fn a_task_for_a_device_that_is_away_stays_queued_and_can_be_cancelled() {
    let runtime = &world().runtime;
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let home = Home::open(&fresh_dir("away")).unwrap();
    let (device, token, url, server) = runtime.block_on(async {
        let both = home.start(any, any).await.unwrap();
        let device = both.first_contact(Duration::from_secs(30)).await.unwrap();
        both.stop().await;
        // The device is known from before, and nobody answers for it now.
        let server = home.start_server(any, any).await.unwrap();
        let (token, url) = (server.token().to_owned(), server.url());
        (device.summary.id, token, url, server)
    });
    let run = |args: &[&str]| -> Ran {
        let mut command = command(args);
        command
            .env("HOMEFLEET_SERVER", &url)
            .env("HOMEFLEET_TOKEN", &token);
        finish(command.spawn().unwrap())
    };

    let path = "Device.DeviceInfo.UpTime";
    let ran = run(&["device", "get", &device, path, "--timeout", "2"]).code(5);
    assert!(
        ran.err.contains("no answer from") && ran.err.contains("task cancel"),
        "{ran:?}"
    );
    let ran = run(&["--json", "device", "get", &device, path, "--timeout", "1"]).code(5);
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    let id = error["error"]["task"]["id"].as_str().unwrap();

    let ran = run(&["device", "get", &device, path, "--stored", "--values"]).code(0);
    assert!(
        ran.out.trim().parse::<u64>().is_ok(),
        "what was read before is still there: {ran:?}"
    );
    let listed = run(&["--json", "device", "list"]).code(0).json();
    // Those two, and perhaps one of the server's own.
    assert!(
        listed["devices"][0]["open_tasks"].as_u64() >= Some(2),
        "{listed}"
    );
    // One of them may be on its way at this moment; then it cannot be withdrawn, and that is said.
    let ran = run(&["task", "cancel", id]);
    assert!(ran.code == 0 || ran.code == 4, "{ran:?}");
    runtime.block_on(server.stop());
}
