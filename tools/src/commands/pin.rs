//! `store pin ...`.

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::views::{Heads, PinView};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(Create),
    List(List),
    Release(Release),
}

/// Hold the state of a volume or snapshot as it is now, whatever happens to it
///
/// A pin is on no list of snapshots and costs what one does. `export image --pin` reads it.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot store pin create pg nightly")]
pub struct Create {
    /// The volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT)
    #[arg(value_name = "REF")]
    head: String,
    /// Who holds it, or what for
    name: String,
}

/// List the pins, with their age and what they hold; exclusive bytes are kept for a pin alone
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot store pin list --json")]
pub struct List {}

/// End pins; their keys are not needed
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot store pin release nightly")]
pub struct Release {
    /// The pins
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Serialize)]
struct Released {
    names: Vec<String>,
}

/// Runs a command.
pub fn run(context: &Context, command: &Command) -> Result {
    match command {
        Command::Create(args) => create(context, args),
        Command::List(List {}) => list(context),
        Command::Release(args) => release(context, args),
    }
}

fn create(context: &Context, args: &Create) -> Result {
    let printer = context.output.of::<PinView>()?;
    let made = context.with_store(Access::Own, |session| {
        let pin = session.head(&args.head)?.pin(&args.name)?;
        let heads = Heads::new(session)?;
        let view = heads.pin(pin.info()?);
        heads.complete()?;
        Ok(view)
    })?;
    printer.show(&made)
}

fn list(context: &Context) -> Result {
    let printer = context.output.of::<PinView>()?;
    let (views, complete) = context.with_store(Access::Read, |session| {
        let heads = Heads::new(session)?;
        let pins = session.store.pins().into_iter();
        let views: Vec<_> = pins.map(|pin| Ok(heads.pin(pin))).collect();
        Ok((views, heads.complete()))
    })?;
    printer.list(views)?;
    complete.map_err(Failure::Partial)
}

fn release(context: &Context, args: &Release) -> Result {
    let names = context.with_store(Access::Own, |session| {
        // All of them are there, or nothing happens.
        let pins = args.names.iter().map(|name| session.store.pin(name));
        let pins: Vec<_> = pins.collect::<offshoot::Result<_>>()?;
        let mut names = Vec::new();
        for pin in pins {
            let Ok(name) = pin.name() else { continue };
            pin.release()?;
            names.push(name);
        }
        Ok(names)
    })?;
    let sentence = format!("released {}", names.join(", "));
    context
        .output
        .done("released/1", &Released { names }, &sentence)
}
