//! What speaks HTTP: the client API here, the peer API beside it. Handlers hold no rule: they parse, ask and answer.
//!
//! Reading order: [`client`] (routes and handlers), [`client_query`] (pages and cursors), [`client_body`] (bodies and
//! headers), [`client_json`] and [`change_json`] (what answers look like), [`plain_json`] (how their texts are written), [`error`] (the one table of
//! errors), [`client_server`] (the port); [`metrics`], [`metric_page`] and [`call_metrics`] (what is counted), [`metrics_server`]; then
//! [`peer`] (the peer port), [`peer_client`] and [`call_client`] (its other ends), [`peer_http`] (the connections below them).

pub mod call_client;
pub mod call_metrics;
pub mod change_json;
pub mod client;
pub mod client_body;
pub mod client_json;
pub mod client_query;
pub mod client_server;
pub mod error;
pub mod metric_page;
pub mod metrics;
pub mod metrics_server;
pub mod peer;
pub mod peer_client;
pub mod peer_http;
pub mod plain_json;
