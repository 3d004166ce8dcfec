//! What is replicated: channels, messages, stars, keys; deterministic apply, over the tables of `storage.rs`.
