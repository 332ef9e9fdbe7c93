//! CPU time and memory, and processes that end with their handle.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// CPU time of every thread of a process.
pub(crate) fn process_cpu(pid: u32) -> Duration {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .map(|threads| {
            threads
                .flatten()
                .map(|thread| on_cpu(&thread.path().join("schedstat")))
                .sum()
        })
        .unwrap_or_default()
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}

fn on_cpu(schedstat: &std::path::Path) -> Duration {
    let nanoseconds = std::fs::read_to_string(schedstat)
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// Bytes of a process in memory.
pub(crate) fn resident(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * 4096)
}

/// A port that was free a moment ago, the next one too.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        if port < u16::MAX && UdpSocket::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// A process that is ended when this is dropped.
pub(crate) struct Running(Child);

impl Running {
    /// A program of somebody else; `None` when it is not installed.
    pub(crate) fn start(program: &str, args: &[&str]) -> Option<Self> {
        Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()
            .map(Self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// This program again, in another role.
pub(crate) struct Own {
    running: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Own {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            running: Running(child),
            input,
            output,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it says next.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn addr(&mut self) -> SocketAddr {
        self.line().parse().unwrap()
    }

    /// Asks, and hears numbers.
    pub(crate) fn ask(&mut self, question: &str) -> Vec<u64> {
        writeln!(self.input, "{question}").unwrap();
        self.line()
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect()
    }
}
