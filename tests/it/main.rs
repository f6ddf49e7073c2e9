//! Tests of the library through its public interface, one module a subject.

mod fixture;
mod model;
mod volumes;
