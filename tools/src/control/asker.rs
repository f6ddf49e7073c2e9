//! The command that found its store locked: has the owner run it.

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use offshoot::check::inspect;
use offshoot::io::real::RealDisk;
use offshoot::{Error, StoreId};

use crate::confirm;
use crate::context::Context;
use crate::control::place;
use crate::control::wire::{self, FRAME_LEN_MAX, Message, Request, Step};
use crate::exit::{Failure, Result};
use crate::nbd::socket::Socket;
use crate::progress::Progress;
use crate::stdout::Out;

/// How long an owner may take to answer at all; what it runs may take as long as it takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// In place of a command that has failed: if its store is locked, its owner runs it. If nobody answers, the
/// failure stands.
pub fn instead(context: &Context, needs_own_process: Option<&str>, failure: Failure) -> Result<u8> {
    let Failure::Library(Error::Locked { pid: Some(pid), .. }) = failure else {
        return Err(failure);
    };
    let Some(socket) = reach(context, pid) else {
        return Err(failure);
    };
    if let Some(reason) = needs_own_process {
        let message = format!("process {pid} has the store, and {reason}");
        return Err(Failure::InUse(message));
    }
    let asked = ask(context, &socket);
    asked.unwrap_or_else(|error| {
        let op = "hear the end of this from";
        Err(Failure::io(
            op,
            format!("process {pid}, which has the store"),
            error,
        ))
    })
}

/// A connection to the process that has the store, if that answers.
fn reach(context: &Context, pid: u32) -> Option<Socket> {
    let disk = RealDisk::open(context.places.store()).ok()?;
    let store = inspect::store_id(&disk).ok()??;
    let name = place::name(store, pid);
    let mut directories = place::directories().into_iter();
    directories.find_map(|directory| {
        greeted(
            Socket::connect(&directory.join(&name), PATIENCE),
            store,
            pid,
        )
        .ok()
    })
}

/// A socket on whose other end is this process, with this store.
fn greeted(socket: io::Result<Socket>, store: StoreId, pid: u32) -> io::Result<Socket> {
    let socket = socket?;
    let peer = socket.peer()?;
    // A process in its place that is not the owner would get the command.
    if u32::try_from(peer.pid.as_raw_nonzero().get()) != Ok(pid) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    wire::greet(&socket, store, Instant::now() + PATIENCE)?;
    Ok(socket)
}

/// Has a command run; an error of the connection, or how the command ended.
fn ask(context: &Context, socket: &Socket) -> io::Result<Result<u8>> {
    let args = context.args.iter().cloned().map(OsString::into_string);
    let Ok(args) = args.collect::<Result<Vec<_>, _>>() else {
        return Ok(Err(Failure::Invalid("a name is no UTF-8".to_owned())));
    };
    let request = Message::Request(Request {
        args,
        can_ask: confirm::can_ask(),
    });
    let request = request.encode();
    if request.len() > FRAME_LEN_MAX {
        return Ok(Err(Failure::Invalid(format!(
            "the command line is too long for the process that has the store: at most {FRAME_LEN_MAX} bytes"
        ))));
    }
    socket.wait_for_ever()?;
    socket.send_all(&request)?;
    let (mut out, mut progress) = (Out::here(), None);
    let outcome = loop {
        match wire::receive(socket, None)? {
            Some(Message::Output(bytes)) => {
                // What is printed is to be seen at once: it may be all for a while.
                if let Err(failure) = out.write(&bytes).and_then(|()| out.flush()) {
                    return Ok(Err(failure));
                }
            }
            Some(Message::Question(question)) => {
                let answer = match confirm::ask_here(&question) {
                    Ok(answer) => answer,
                    Err(failure) => return Ok(Err(failure)),
                };
                socket.send_all(&Message::Answer(answer).encode())?;
            }
            Some(Message::Progress(step)) => show(context, &mut progress, step),
            Some(Message::Done(code)) => break Ok(code),
            Some(Message::Failed(failed)) => {
                break Err(Failure::Told(failed.kind, failed.message, failed.code));
            }
            Some(Message::Request(_) | Message::Answer(_)) => {
                return Err(io::ErrorKind::InvalidData.into());
            }
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    Ok(outcome)
}

fn show(context: &Context, shown: &mut Option<Progress>, step: Step) {
    let progress = shown.get_or_insert_with(|| context.progress(step.operation, step.total));
    progress.at(step.done);
    if step.finished
        && let Some(progress) = shown.take()
    {
        progress.finish();
    }
}
