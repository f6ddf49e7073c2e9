//! The store on a simulated machine that crashes everywhere, judged by a model.

mod campaign;
mod model;
mod nonces;
mod ops;
mod oracle;
mod rig;
mod run;
mod syncs;

mod between;
mod bulk;
mod crashes;
mod damage;
mod faults;
mod full;
mod histories;
mod keys;
mod log;
mod planted;
mod superblocks;
