//! The store on a simulated machine that crashes everywhere, judged by a model.

mod campaign;

mod between;
mod bulk;
mod crashes;
mod damage;
mod faults;
mod full;
mod keys;
mod log;
mod planted;
mod scenarios;
mod superblocks;
mod torture;
