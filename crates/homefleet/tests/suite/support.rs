//! One server and one agent for the whole suite, and the command run against them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use homefleet_cli::demo::{Home, Running};
use serde_json::Value;
use tokio::runtime::Runtime;

/// A server with this machine's agent, connected.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) device: String,
    pub(crate) running: Running,
    pub(crate) runtime: Runtime,
}

/// The world, started by the first test that needs it. Its directory is new each time.
pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = Runtime::new().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let running = runtime.block_on(async {
            let home = Home::open(&fresh_dir("world")).unwrap();
            let running = home.start(any, any).await.unwrap();
            let contact = running.first_contact(Duration::from_secs(30)).await;
            assert!(contact.is_some(), "the agent made no contact within 30 s");
            running
        });
        World {
            url: running.url(),
            token: running.token().to_owned(),
            device: running.device_id().to_owned(),
            running,
            runtime,
        }
    })
}

/// Tests that change the same parameter take turns.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty directory below the build's own.
pub(crate) fn fresh_dir(name: &str) -> PathBuf {
    let dir =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    if dir.exists() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// What a run of the command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code.
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// The command without an environment of its own.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homefleet"));
    command
        .args(args)
        .env_remove("HOMEFLEET_SERVER")
        .env_remove("HOMEFLEET_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the command without a server.
pub(crate) fn run(args: &[&str]) -> Ran {
    finish(command(args).spawn().unwrap())
}

/// Runs the command against the world.
pub(crate) fn run_in_world(args: &[&str]) -> Ran {
    finish(spawn_in_world(args))
}

/// Starts the command against the world.
pub(crate) fn spawn_in_world(args: &[&str]) -> Child {
    let world = world();
    command(args)
        .env("HOMEFLEET_SERVER", &world.url)
        .env("HOMEFLEET_TOKEN", &world.token)
        .spawn()
        .unwrap()
}

/// Waits for the end of the command.
pub(crate) fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Sends a signal to a process this test started.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}
