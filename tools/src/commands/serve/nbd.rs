//! `serve nbd`.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use clap::{ArgGroup, Args};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::commands::serve::ephemeral::Ephemeral;
use crate::commands::serve::pid_file::PidFile;
use crate::commands::serve::served;
use crate::commands::serve::sockets::Sockets;
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::nbd::record::Recorder;
use crate::nbd::server::{Server, Settings};
use crate::session::Session;
use crate::sys;

/// Serve volumes and snapshots as block devices (NBD) until SIGTERM or SIGINT
///
/// An export is named like its reference, or as REF=EXPORT says; a single one has the empty name too.
/// Snapshots are read-only. What a client has flushed, or written with FUA, survives a power loss; a
/// flush on any connection covers what was answered on all. At the end requests under way are done
/// and everything is flushed. Sockets that systemd or a client's socket activation passes are used
/// when no other is named.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  offshoot serve nbd pg --socket /tmp/pg.sock\n  \
                  offshoot serve nbd pg@monday --run 'nbdcopy \"$uri\" disk.img'\n  \
                  nbdinfo -- [ offshoot serve nbd pg ]",
    group = ArgGroup::new("what").args(["references", "all"]).required(true),
    group = ArgGroup::new("where").args(["socket", "listen", "run"])
)]
pub struct Nbd {
    /// Volumes (NAME) and snapshots (NAME@SNAPSHOT, @SNAPSHOT), each perhaps under another name
    #[arg(value_name = "REF[=EXPORT]")]
    pub references: Vec<String>,
    /// Serve all volumes and snapshots that there are now
    #[arg(long)]
    pub all: bool,
    /// Listen on a Unix socket: one of nobody is replaced, a directory that is missing is made
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Listen on a port of this machine (127.0.0.1 or [::1]; port 0 takes any)
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Run a shell command with $uri and $socket, serve until it ends, and exit as it does
    #[arg(long, value_name = "CMD")]
    run: Option<String>,
    /// Serve volumes read-only too
    #[arg(long)]
    pub read_only: bool,
    /// Tell nobody the names of exports
    #[arg(long)]
    no_list: bool,
    /// Most clients at once; more are sent away
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: u16,
    /// Who may connect to the Unix socket, as an octal mode
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode)]
    pub socket_mode: u32,
    /// Print the URI of each export once clients can connect
    #[arg(long)]
    print_uri: bool,
    /// Write the process id into a file once clients can connect; it is removed at the end
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// End when the last client has left
    #[arg(long)]
    exit_with_last_client: bool,
    /// Serve clones that are deleted at the end: what clients write is thrown away
    #[arg(long, conflicts_with = "read_only")]
    pub ephemeral_clone: bool,
    /// Note every change in a new file, in order and with its data, in the form that nbd-trplay reads
    #[arg(long, value_name = "LOG", conflicts_with = "all")]
    record: Option<PathBuf>,
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!("{text:?} is no mode: write for example 660")),
    }
}

/// Runs the command.
pub fn run(context: &Context, args: &Nbd) -> Result<u8> {
    let passed = sys::take_passed_sockets();
    check(args, &passed)?;
    let access = match args.read_only {
        true => Access::Read,
        false => Access::Own,
    };
    context.with_store(access, |session| {
        let ephemeral = Ephemeral::default();
        let served = serve(context, session, args, passed, &ephemeral);
        let deleted = ephemeral.delete();
        let code = served?;
        deleted.map(|()| code)
    })
}

/// Refuses what cannot be meant, before the store is opened.
fn check(args: &Nbd, passed: &[OwnedFd]) -> Result {
    let named = args.socket.is_some() || args.listen.is_some() || args.run.is_some();
    if !named && passed.is_empty() {
        return Err(Failure::Invalid(
            "say where clients are to connect: --socket PATH, --listen HOST:PORT, --run CMD, or \
             pass a socket by socket activation"
                .to_owned(),
        ));
    }
    if named && !passed.is_empty() {
        return Err(Failure::Invalid(
            "a socket was passed by socket activation: then name no other".to_owned(),
        ));
    }
    if args.record.is_some() && args.references.len() > 1 {
        return Err(Failure::Invalid(
            "--record is of one export: it notes places, not names".to_owned(),
        ));
    }
    Ok(())
}

fn serve(
    context: &Context,
    session: &Session,
    args: &Nbd,
    passed: Vec<OwnedFd>,
    ephemeral: &Ephemeral,
) -> Result<u8> {
    let exports = Arc::new(served::exports(session, args, args.no_list, ephemeral)?);
    let settings = Settings {
        connections_max: args.max_connections.into(),
        exit_with_last_client: args.exit_with_last_client,
        recorder: args.record.as_deref().map(Recorder::create).transpose()?,
    };
    let server = Server::new(exports.clone(), settings)?;
    let interrupt = Interrupt::new();
    for signal in [SIGTERM, SIGINT] {
        let woken = pipe::register(signal, server.waker()?);
        woken.map_err(|error| Failure::io("notice", "signals", error))?;
    }
    let sockets = Sockets::open(args, passed)?;
    let _pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    if args.print_uri {
        print_uris(context, &sockets.uris(&exports.names()))?;
    }
    let mut command = match &args.run {
        Some(command) => {
            let uri = sockets.default_uri(&exports.names());
            Some(Running::start(command, uri, &sockets, server.waker()?)?)
        }
        None => None,
    };
    let served = server.run(&sockets.listeners, &mut || {
        let done = command.as_mut().is_some_and(Running::is_done);
        Ok(done || interrupt.check().is_err())
    });
    // New clients find nobody from here on.
    drop(sockets);
    server.stop();
    let flushed = session.store.flush();
    let code = command.map_or(Ok(0), Running::finish)?;
    served?;
    flushed?;
    Ok(code)
}

fn print_uris(context: &Context, uris: &[String]) -> Result {
    let document = json!({ "schema": "nbd-server/1", "nbd_server": { "uris": uris } });
    let text: String = uris.iter().map(|uri| format!("{uri}\n")).collect();
    context.output.document(&document, &text)
}

/// A command that runs while its volumes are served.
struct Running {
    pid: Option<Pid>,
    ended: Receiver<std::io::Result<ExitStatus>>,
    status: Option<std::io::Result<ExitStatus>>,
}

impl Running {
    fn start(text: &str, uri: String, sockets: &Sockets, waker: UnixStream) -> Result<Self> {
        let failed = |error| Failure::io("run", text, error);
        let mut command = Command::new("sh");
        command.args(["-c", text]).env("uri", uri);
        if let Some(socket) = &sockets.private {
            command.env("socket", socket);
        }
        let mut child: Child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (tell, ended) = mpsc::channel();
        let named = thread::Builder::new().name("nbd-command".to_owned());
        named
            .spawn(move || {
                // If nobody listens any more, the server has ended first.
                let _ = tell.send(child.wait());
                let _ = rustix::io::write(&waker, &[0]);
            })
            .map_err(failed)?;
        Ok(Self {
            pid,
            ended,
            status: None,
        })
    }

    fn is_done(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.ended.try_recv().ok();
        }
        self.status.is_some()
    }

    /// The command's exit code. If the server was interrupted, so is the command.
    fn finish(mut self) -> Result<u8> {
        if !self.is_done() {
            if let Some(pid) = self.pid {
                // If it has just ended by itself, there is nobody to tell.
                let _ = kill_process(pid, Signal::TERM);
            }
            self.status = self.ended.recv().ok();
        }
        match self.status {
            Some(Ok(status)) => Ok(status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1)),
            Some(Err(error)) => Err(Failure::io("run", "the command", error)),
            None => Err(Failure::Cancelled("the command was lost")),
        }
    }
}
