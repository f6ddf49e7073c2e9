//! A store on a simulated machine that crashes everywhere, judged by a model.
//!
//! `tests/sim` and `offshoot torture` are made of it. It uses the library's public interface only, and panics
//! where it is itself at fault; what is wrong with a store is an `Err` with a text.

pub mod model;
pub mod nonces;
pub mod ops;
pub mod oracle;
pub mod rig;
pub mod run;
pub mod shown;
pub mod syncs;
pub mod torture;
