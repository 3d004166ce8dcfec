//! What speaks HTTP: the client API here, the peer API beside it. Handlers hold no rule: they parse, ask and answer.
//!
//! Reading order: [`client`] (routes and handlers), [`client_query`] (pages and cursors), [`client_body`] (bodies and
//! headers), [`client_json`] (what answers look like), [`error`] (the one table of errors).

pub mod client;
pub mod client_body;
pub mod client_json;
pub mod client_query;
pub mod error;
