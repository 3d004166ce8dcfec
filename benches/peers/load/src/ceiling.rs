//! The ceiling: what actix-web gives at most on one thread, for a post of which nothing is stored.

use actix_web::web::{self, Json};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::args::Work;
use crate::http::{self, Http};
use crate::work::{Client, TEXT_BYTES, Texts};

/// A body has so many bytes in all.
const BODY_BYTES: usize = 280;

#[derive(Deserialize)]
struct Body {
    text: String,
}

async fn handle(Json(body): Json<Body>) -> HttpResponse {
    if body.text.len() < TEXT_BYTES { HttpResponse::BadRequest().finish() } else { HttpResponse::Ok().finish() }
}

/// Serves until it is killed.
///
/// # Errors
/// The port is taken.
pub fn serve(listen: &str) -> Result<()> {
    let server = HttpServer::new(|| App::new().route("/", web::post().to(handle))).workers(1).bind(listen)?;
    Ok(actix_web::rt::System::new().block_on(server.run())?)
}

/// One client.
pub struct CeilingClient {
    http: Http,
    texts: Texts,
}

/// Connects so many.
///
/// # Errors
/// It does not answer.
pub async fn connect(at: &[String], count: usize) -> Result<Vec<CeilingClient>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(CeilingClient { http: Http::connect(&at[0]).await?, texts: Texts::new() });
    }
    Ok(clients)
}

impl Client for CeilingClient {
    async fn call(&mut self, _: Work) -> Result<()> {
        let text = self.texts.take();
        let fill = " ".repeat(BODY_BYTES - TEXT_BYTES - r#"{"text":""}"#.len());
        let answer = self.http.call(&http::post("/", &format!(r#"{{"text":"{text}"}}{fill}"#))).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    }
}
