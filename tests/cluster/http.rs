//! A client of the client API, as small as tests need: HTTP/1.1 over a blocking socket, one connection kept open.
//!
//! Not here: retries. Whoever asks decides what a failure means.

use serde_json::Value;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// The body; null when it is no JSON.
    pub json: Value,
    body: Vec<u8>,
}

impl Reply {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, if it is one.
    #[allow(dead_code, reason = "tests/docker.rs compiles this file too, and does not need it")]
    pub fn text(&self) -> Option<String> {
        String::from_utf8(self.body.clone()).ok()
    }

    /// The stable code of an error; empty for an answer that is none.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }
}

/// One request. The user is the same for all of a test's writers: keys are unique.
pub struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: String,
}

impl<'a> Request<'a> {
    /// Without a body.
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, path, headers: Vec::new(), body: String::new() }
    }

    /// Posts a text.
    pub fn post(path: &'a str, text: &str) -> Self {
        let body = serde_json::json!({ "text": text }).to_string();
        Self { method: "POST", path, headers: vec![("Content-Type", "application/json")], body }
    }

    /// With one more header.
    pub fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn encode(&self, host: SocketAddr) -> String {
        let fields: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let Self { method, path, body, .. } = self;
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
    }
}

/// A client of one gateway.
pub struct Client {
    /// The gateway's client port.
    address: SocketAddr,
    timeout: Duration,
    open: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Connects when it first asks.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, timeout: Duration::from_secs(60), open: None }
    }

    /// With another limit on one wait for bytes.
    pub fn patient_for(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Has a connection ready: the kept one, unless the other end has closed it meanwhile, or a new one. It fails only when
    /// none can be made, and nothing was sent then.
    #[allow(dead_code, reason = "tests/docker.rs compiles this file too, and is the one that needs it")]
    pub fn reach(&mut self, patience: Duration) -> Result<()> {
        let is_kept = self.open.as_ref().is_some_and(|stream| is_open(stream.get_ref()));
        if !is_kept {
            self.open = None;
            self.open = Some(self.connect(patience)?);
        }
        Ok(())
    }

    /// Asks once. After an error the next request takes a new connection.
    pub fn send(&mut self, request: &Request<'_>) -> Result<Reply> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => self.connect(self.timeout)?,
        };
        stream.get_mut().write_all(request.encode(self.address).as_bytes())?;
        let reply = read_reply(&mut stream)?;
        if reply.header("connection") != Some("close") {
            self.open = Some(stream);
        }
        Ok(reply)
    }

    /// Asks for a path.
    pub fn get(&mut self, path: &str) -> Result<Reply> {
        self.send(&Request::new("GET", path))
    }

    fn connect(&self, patience: Duration) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

/// Whether an idle connection is: neither its end nor anything that was not asked for has come.
fn is_open(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    stream.set_nonblocking(false).is_ok() && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn read_reply(stream: &mut BufReader<TcpStream>) -> Result<Reply> {
    let first = read_line(stream)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| malformed("status"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut reply = Reply { status, headers, json: Value::Null, body: Vec::new() };
    reply.body = read_body(stream, &reply)?;
    reply.json = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    Ok(reply)
}

fn read_line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn read_body(stream: &mut BufReader<TcpStream>, reply: &Reply) -> Result<Vec<u8>> {
    if reply.header("transfer-encoding") == Some("chunked") {
        return read_chunks(stream);
    }
    let length = reply.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(stream: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let length = usize::from_str_radix(&read_line(stream)?, 16).map_err(|_| malformed("chunk"))?;
        let start = body.len();
        body.resize(start + length, 0);
        stream.read_exact(&mut body[start..])?;
        read_line(stream)?;
        if length == 0 {
            return Ok(body);
        }
    }
}
