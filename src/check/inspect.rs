//! Views of a store.
