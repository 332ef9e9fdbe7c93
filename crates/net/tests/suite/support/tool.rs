//! Independent peers: programs that are found or loudly missed, with their files in a temporary directory.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::pki::{Ca, Issued};

/// Whether `program` is there. Missing, the test is skipped with a line that says so; in CI it fails.
pub(crate) fn have(program: &str, version: &[&str]) -> bool {
    match Command::new(program)
        .args(version)
        .stdin(Stdio::null())
        .output()
    {
        Ok(output) => {
            let mut text = output.stdout;
            text.extend(output.stderr);
            let text = String::from_utf8_lossy(&text);
            let line = text
                .lines()
                .find(|line| line.contains(|c: char| c.is_ascii_digit()));
            println!("peer: {program}: {}", line.unwrap_or("(no version)"));
            true
        }
        Err(error) => {
            skip(&format!("{program}: {error}"));
            false
        }
    }
}

pub(crate) fn skip(why: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "a peer is missing and CI is set: {why}"
    );
    println!("SKIPPED, A PEER IS MISSING: {why}");
}

/// Certificates and keys as files.
pub(crate) struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new(ca: &Ca, issued: &Issued) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        write("ca.pem", &ca.root_pem());
        write("chain.pem", &issued.chain);
        write("key.pem", &issued.key);
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

/// A running program; it ends with the test.
pub(crate) struct Tool {
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Tool {
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for mut reader in readers {
            let output = output.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(len @ 1..) = reader.read(&mut buffer) {
                    output.lock().unwrap().extend(&buffer[..len]);
                }
            });
        }
        Self {
            stdin: child.stdin.take(),
            child,
            output,
        }
    }

    pub(crate) fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// End of input: most tools take it as good-bye.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until the tool has said `text`.
    pub(crate) fn wait_for(&self, text: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if self.output().contains(text) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Waits until the tool has ended by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}
