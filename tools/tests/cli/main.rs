//! Contracts of every command: what it prints, its JSON, its exit code.

mod damage;
mod heads;
mod images;
mod keys;
mod locks;
mod misuse;
mod output;
mod ranges;
mod stores;
mod support;
