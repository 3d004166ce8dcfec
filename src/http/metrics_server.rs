//! The metrics port of a process: `GET /metrics`, and nothing else. For data nodes above all, whose only other port demands
//! the cluster's secret.
//!
//! It shows numbers and ids, no text of any user, and no address; whoever reaches the port may read them.
//!
//! Not here: what is told (`metrics.rs`). A gateway tells the same at its client port (`client.rs`).

use super::metric_page::TEXT_FORMAT;
use super::metrics::Sources;
use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};
use std::net::TcpListener;
use std::time::Duration;

/// How many may ask at once; more are let wait.
const CONNECTIONS_MAX: usize = 32;

/// How long a request's header may take.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);

/// Serves the port until the process ends.
///
/// # Errors
/// When the port cannot be listened on.
pub fn serve(listener: TcpListener, sources: Sources) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new().app_data(web::Data::new(sources.clone())).route("/metrics", web::get().to(metrics))
    });
    let server = server.workers(1).max_connections(CONNECTIONS_MAX).client_request_timeout(HEADER_PATIENCE);
    Ok(server.shutdown_timeout(1).disable_signals().listen(listener)?.run())
}

async fn metrics(sources: web::Data<Sources>) -> HttpResponse {
    answer(&sources).await
}

/// The page, as an answer.
pub(super) async fn answer(sources: &Sources) -> HttpResponse {
    match sources.page().await.text() {
        Ok(text) => HttpResponse::Ok().content_type(TEXT_FORMAT).body(text),
        Err(error) => {
            log::error!("the metrics cannot be written: {error}");
            HttpResponse::InternalServerError().body("the metrics cannot be written")
        }
    }
}
