//! A server that runs while it is tested.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, PATIENCE};
use crate::support::Place;

/// A server on the socket `nbd.sock` of a place. It must end well when it is dropped.
pub struct Server {
    child: Option<Child>,
    pub socket: PathBuf,
}

impl Server {
    /// Serves what the arguments say.
    pub fn start(place: &Place, args: &[&str]) -> Self {
        let socket = place.path("nbd.sock");
        let mut command = place.std_command(&["serve", "nbd", "--socket", "nbd.sock"]);
        command.args(args).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a server");
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if let Some(status) = child.try_wait().expect("a child") {
                let mut text = String::new();
                let stderr = child
                    .stderr
                    .take()
                    .map(|mut stderr| stderr.read_to_string(&mut text));
                panic!("the server ended ({status}): {text} {stderr:?}");
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        let child = Some(child);
        Self { child, socket }
    }

    /// The volume `pg`.
    pub fn of_pg(place: &Place) -> Self {
        Self::start(place, &["pg"])
    }

    /// A connection.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("a server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// A client with structured replies and contexts.
    pub fn client(&self, export: &str) -> Client {
        Client::structured(self.connect(), export)
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("a server that runs")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a server that runs").id()
    }

    /// Most memory that it had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("its status");
        // Not what it has of files.
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.expect("a number").parse::<u64>().expect("a number") << 10
    }

    /// Asks it to end.
    pub fn terminate(&mut self) {
        let pid = Pid::from_child(self.child());
        kill_process(pid, Signal::TERM).expect("a process");
    }

    /// Waits until it ends.
    pub fn wait(mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a server that runs");
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("the server does not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.child().kill().expect("a process");
        self.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if std::thread::panicking() {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            self.child = Some(child);
            self.terminate();
            let child = self.child.take();
            let socket = self.socket.clone();
            let status = Self { child, socket }.wait();
            assert_eq!(status.code(), Some(0), "the server did not end well");
        }
    }
}
