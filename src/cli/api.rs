//! How client commands talk to gateways: any of them will do, and a request goes on to the next one when one is in trouble.
//!
//! A write keeps its idempotency key through all tries, so that it takes effect once whatever was lost on the way.

use super::Failure;
use super::people::safe;
use awc::http::Method;
use clap::Args;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Where to ask when nobody says.
const GATEWAY: &str = "http://127.0.0.1:8080";
/// How long one try may take: longer than a gateway holds a request.
const TRY_MS: u64 = 20_000;
/// How long to wait before the next try.
const PAUSE_MS: u64 = 300;
/// The largest answer that is read. Bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What every client command takes.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// The gateways to ask, with commas between them [default: LOCKSTEP_GATEWAY, else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL,...")]
    gateway: Option<String>,
    /// Who calls [default: LOCKSTEP_USER, else anonymous]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// For how many seconds to go on trying while the cluster is in trouble
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    patience: u64,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// One request of the client API.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    key: Option<String>,
}

impl Call {
    pub fn get(path: String) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None, key: None }
    }

    /// Adds a parameter, when it is there.
    pub fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// A write: under this key, or a fresh one.
    pub fn write(method: Method, path: String, body: Option<Value>, key: Option<String>) -> Result<Self, Failure> {
        let key = match key {
            Some(key) => key,
            None => random_hex(16)?,
        };
        Ok(Self { method, path, query: Vec::new(), body, key: Some(key) })
    }
}

/// So many random bytes, as hexadecimal digits.
pub fn random_hex(bytes: usize) -> Result<String, Failure> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|e| Failure::new(format!("the system gives no randomness: {e}")))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A path's part, whatever was typed.
pub fn segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answered {
    status: u16,
    body: Value,
}

/// Why one try failed.
enum Trouble {
    /// Another gateway, or the same one later, may do better.
    Passing(Failure),
    /// Trying again is no use.
    Final(Failure),
}

/// The gateways that may be asked.
pub struct Gateways {
    client: awc::Client,
    urls: Vec<String>,
    user: Option<String>,
    patience: Duration,
}

impl Gateways {
    pub fn new(target: &Target) -> Self {
        let user = target.user.clone().or_else(|| std::env::var("LOCKSTEP_USER").ok());
        Self {
            client: awc::Client::builder().disable_redirects().timeout(Duration::from_millis(TRY_MS)).finish(),
            urls: gateways(target.gateway.as_deref()),
            user: user.filter(|user| !user.is_empty()),
            patience: Duration::from_secs(target.patience),
        }
    }

    /// Asks one gateway after the other until one has answered, or the patience is at its end.
    pub async fn ask(&self, call: &Call) -> Result<Value, Failure> {
        let begun = Instant::now();
        let mut urls = self.urls.iter().cycle();
        let mut said = false;
        loop {
            let Some(url) = urls.next() else { return Err(Failure::new("no gateway is named")) };
            let failure = match self.once(url, call).await {
                Ok(body) => return Ok(body),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Passing(failure)) => failure,
            };
            if begun.elapsed() >= self.patience {
                return Err(failure);
            }
            if !std::mem::replace(&mut said, true) {
                eprintln!("lockstep: {failure}; trying on for {} s", self.patience.as_secs());
            }
            actix_rt::time::sleep(Duration::from_millis(PAUSE_MS)).await;
        }
    }

    async fn once(&self, url: &str, call: &Call) -> Result<Value, Trouble> {
        let Answered { status, body } = self.send(url, call).await.map_err(Trouble::Passing)?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let failure = problem(url, status, &body);
        // 503 never took effect, and the key makes 504 safe to repeat.
        Err(if matches!(status, 502..=504 | 408) { Trouble::Passing(failure) } else { Trouble::Final(failure) })
    }

    async fn send(&self, url: &str, call: &Call) -> Result<Answered, Failure> {
        let unreachable = |reason: String| Failure::new(format!("{url} cannot be asked: {reason}"));
        let mut request = self.client.request(call.method.clone(), format!("{url}{}", call.path));
        request = request.query(&call.query).map_err(|e| unreachable(e.to_string()))?;
        if let Some(user) = &self.user {
            request = request.insert_header(("Lockstep-User", user.as_str()));
        }
        if let Some(key) = &call.key {
            request = request.insert_header(("Idempotency-Key", key.as_str()));
        }
        let sent = match &call.body {
            Some(body) => request.send_json(body),
            None => request.send(),
        };
        let mut response = sent.await.map_err(|e| unreachable(e.to_string()))?;
        let bytes = response.body().limit(ANSWER_BYTES_MAX).await.map_err(|e| unreachable(e.to_string()))?;
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answered { status: response.status().as_u16(), body })
    }
}

/// The gateways that are named here, or by the environment, or else the one of this machine.
pub fn gateways(named: Option<&str>) -> Vec<String> {
    let text = named.map(str::to_owned).or_else(|| std::env::var("LOCKSTEP_GATEWAY").ok());
    let text = text.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| GATEWAY.to_owned());
    text.split(',').map(url).filter(|url| !url.is_empty()).collect()
}

/// A gateway's address, as one would type it.
fn url(text: &str) -> String {
    let text = text.trim().trim_end_matches('/');
    if text.is_empty() || text.contains("://") { text.to_owned() } else { format!("http://{text}") }
}

/// A refusal in a sentence, with what the caller may do.
fn problem(url: &str, status: u16, body: &Value) -> Failure {
    let text = |name: &str| body[name].as_str().map(safe);
    let Some(code) = text("code") else { return Failure::new(format!("{url} answered {status}")) };
    let field = text("field").map(|field| format!("{field}: ")).unwrap_or_default();
    let key = text("idempotency_key").map(|key| format!("; repeat it with --key {key}")).unwrap_or_default();
    Failure::new(format!("{field}{} ({code}){key}", text("detail").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_holds_whatever_was_typed() {
        assert_eq!(segment("general"), "general");
        assert_eq!(segment("a/b?c#\u{e9}"), "a%2Fb%3Fc%23%C3%A9");
    }

    #[test]
    fn gateways_are_typed_in_many_ways() {
        for typed in ["127.0.0.1:8080", " http://127.0.0.1:8080/ ", "http://127.0.0.1:8080"] {
            assert_eq!(url(typed), "http://127.0.0.1:8080");
        }
        assert_eq!(url(" "), "");
    }

    #[test]
    fn a_refusal_names_field_code_and_key() {
        let body = json!({"code": "invalid_argument", "field": "text", "detail": "must not be empty"});
        assert_eq!(problem("u", 400, &body).to_string(), "text: must not be empty (invalid_argument)");
        let body = json!({"code": "outcome_unknown", "detail": "who knows", "idempotency_key": "k"});
        assert_eq!(problem("u", 504, &body).to_string(), "who knows (outcome_unknown); repeat it with --key k");
        assert_eq!(problem("http://u", 500, &Value::Null).to_string(), "http://u answered 500");
    }

    /// A gateway that gives these answers, one for each connection, and tells the keys that it was sent.
    async fn scripted(answers: Vec<(u16, &'static str)>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let served = actix_rt::spawn(async move {
            let mut keys = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.expect("a request");
                let request = String::from_utf8_lossy(&request[..read]).to_lowercase();
                let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap_or_default();
                keys.push(key.to_owned());
                let head =
                    format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all((head + body).as_bytes()).await.expect("answered");
            }
            keys
        });
        (url, served)
    }

    fn target(urls: &[&str], patience: u64) -> Target {
        Target { gateway: Some(urls.join(",")), user: Some("ada".into()), patience, json: false }
    }

    #[actix_rt::test]
    async fn s3_every_try_of_a_write_has_the_same_key() {
        let unknown = r#"{"code": "outcome_unknown", "detail": "who knows"}"#;
        let (first, first_keys) = scripted(vec![(503, r#"{"code": "no_primary"}"#), (504, unknown)]).await;
        let (second, second_keys) = scripted(vec![(504, unknown), (201, r#"{"message": {}}"#)]).await;
        let dead = "http://127.0.0.1:1";
        let call = Call::write(Method::POST, "/v1/x".into(), Some(json!({"text": "x"})), None).expect("a call");
        let gateways = Gateways::new(&target(&[&first, dead, &second], 30));
        assert_eq!(gateways.ask(&call).await, Ok(json!({"message": {}})));
        let keys = [first_keys.await.expect("keys"), second_keys.await.expect("keys")].concat();
        assert_eq!(keys.len(), 4);
        assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 32), "{keys:?}");
    }

    #[actix_rt::test]
    async fn what_will_not_change_is_not_tried_again() {
        let (url, keys) = scripted(vec![(409, r#"{"code": "aborted", "detail": "never"}"#)]).await;
        let call = Call::write(Method::PUT, "/v1/x".into(), None, Some("k".into())).expect("a call");
        let failure = Gateways::new(&target(&[&url], 30)).ask(&call).await.expect_err("it was aborted");
        assert_eq!((failure.to_string(), keys.await.expect("keys")), ("never (aborted)".into(), vec!["k".to_owned()]));
        let impatient = Gateways::new(&target(&["127.0.0.1:1"], 0));
        let failure = impatient.ask(&call).await.expect_err("nobody is there");
        assert!(failure.to_string().starts_with("http://127.0.0.1:1 cannot be asked"), "{failure}");
    }
}
