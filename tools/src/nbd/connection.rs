//! One client: the handshake, then its requests.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::nbd::answer::Service;
use crate::nbd::budget::{Budget, Sharers};
use crate::nbd::buffers::Buffers;
use crate::nbd::exports::Exports;
use crate::nbd::negotiate::negotiate;
use crate::nbd::outbox::Outbox;
use crate::nbd::pool::Jobs;
use crate::nbd::protocol::request::Terms;
use crate::nbd::record::Recorder;
use crate::nbd::socket::Socket;
use crate::nbd::transmission::{Pace, QUICK, QUICK_ALONE, Transmission};

/// What all connections have in common.
#[derive(Clone)]
pub struct Common {
    pub exports: Arc<Exports>,
    pub jobs: Jobs,
    pub buffers: Arc<Buffers>,
    pub sharers: Sharers,
    pub recorder: Option<Arc<Recorder>>,
    /// Requests that come from now on are refused.
    pub stopping: Arc<AtomicBool>,
}

/// Serves a client until it leaves.
pub fn serve(common: &Common, socket: &Arc<Socket>) {
    // A client that leaves in the middle, or takes too long, is no matter to anybody else.
    if let Ok(Some((chosen, received))) = negotiate(socket, &common.exports) {
        let terms = Terms {
            size: chosen.offer.size,
            page_len: chosen.offer.page_len,
            read_only: chosen.offer.read_only,
            structured: chosen.structured,
            has_contexts: !chosen.contexts.is_empty(),
        };
        let service = Service {
            export: chosen.export,
            terms,
            contexts: chosen.contexts,
            recorder: common.recorder.clone(),
        };
        let budget = Arc::new(Budget::new(common.sharers.clone()));
        let buffers = common.buffers.clone();
        let outbox = Outbox::new(socket.clone(), budget.clone(), buffers.clone());
        let transmission = Transmission {
            service,
            socket: socket.clone(),
            budget,
            outbox: Arc::new(outbox),
            buffers,
            jobs: common.jobs.clone(),
            stopping: common.stopping.clone(),
            reads: Pace::new(QUICK),
            writes: Pace::new(QUICK),
            alone: Pace::new(QUICK_ALONE),
        };
        Arc::new(transmission).serve(&received);
    }
    socket.end();
}
