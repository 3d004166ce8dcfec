//! HTTP/1.1 over one kept connection, and nothing more: a client that costs as little as can be, since it has the servers' cores.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::BytesMut;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More headers than any server here sends.
const HEADERS_MAX: usize = 64;
/// What a read asks for at least. Bytes.
const READ_BYTES: usize = 16 * 1024;

/// One connection.
pub struct Http {
    stream: TcpStream,
    buffer: BytesMut,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: BytesMut,
}

impl Http {
    /// Connects; every request goes out at once.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(at: &str) -> Result<Self> {
        let stream = TcpStream::connect(at).await.with_context(|| format!("{at}: does not answer"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(READ_BYTES) })
    }

    /// Sends a whole request, and reads a whole answer.
    ///
    /// # Errors
    /// The connection ended, or the answer is not HTTP of a known length.
    pub async fn call(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        loop {
            if let Some((status, head, body)) = parse(&self.buffer)? {
                while self.buffer.len() < head + body {
                    self.read().await?;
                }
                drop(self.buffer.split_to(head));
                return Ok(Answer { status, body: self.buffer.split_to(body) });
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<()> {
        self.buffer.reserve(READ_BYTES);
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server ended the connection");
        Ok(())
    }
}

/// Status, length of the head, length of the body; none while the head is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let Some(length) = length else { bail!("an answer without Content-Length") };
    let body = std::str::from_utf8(length.value)?.trim().parse()?;
    Ok(Some((response.code.context("an answer without a status")?, head, body)))
}

/// A request with a body of JSON, ready to be sent.
pub fn post(path: &str, json: &str) -> Vec<u8> {
    let length = json.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    )
    .into_bytes()
}

/// A request without a body, ready to be sent.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: load\r\n\r\n").into_bytes()
}

/// Asks once, on a connection of its own that ends with the answer, and expects JSON. HTTP/1.0: some servers write pieces otherwise.
///
/// # Errors
/// No answer, another status than 200, or no JSON.
pub async fn ask(at: &str, request: &[u8]) -> Result<Value> {
    let mut http = Http::connect(at).await?;
    let old = String::from_utf8_lossy(request).replacen("HTTP/1.1", "HTTP/1.0", 1);
    http.stream.write_all(old.as_bytes()).await?;
    let mut answer = Vec::new();
    http.stream.read_to_end(&mut answer).await?;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(&answer)? else { bail!("{at}: half an answer") };
    ensure!(response.code == Some(200), "{at}: status {:?}", response.code);
    Ok(serde_json::from_slice(&answer[head..])?)
}
