//! What the targets share. Each target is a file in `fuzz_targets`, and says in its opening what it reads and what must hold.
//!
//! [`client`]: the client API over a cluster that answers everything. [`store`]: a storage in memory, with something in it.
//! [`letters`]: letters that are nearly right, made of bytes. [`lone`]: one node, and bytes for all the others.

pub mod client;
pub mod letters;
pub mod lone;
pub mod store;
