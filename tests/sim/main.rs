//! The store on a simulated machine that crashes everywhere, judged by a model.

mod campaign;
mod model;
mod nonces;
mod ops;
mod oracle;
mod rig;
mod run;
mod syncs;

mod crashes;
mod faults;
mod planted;
