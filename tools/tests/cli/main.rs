//! Contracts of every command: what it prints, its JSON, its exit code.

mod control;
mod damage;
mod demo;
mod heads;
mod images;
mod inspect;
mod keys;
mod locks;
mod misuse;
mod nbd;
mod output;
mod page_sizes;
mod ranges;
mod scrub;
mod stats;
mod stores;
mod support;
mod torture;
