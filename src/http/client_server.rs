//! The client port: the server under the client API, and how it ends without a client that notices.
//!
//! A server that stops takes no more connections, and serves those that it has: each answer says that it is the last of its
//! connection, so that clients go elsewhere, and what a client sends on an idle connection meanwhile is answered too. (The web
//! framework's own server closes idle connections at that moment, and a request that is on its way is lost.)
//!
//! Not here: what is answered (`client.rs`).

use super::call_metrics::counted;
use super::client::{ClientApi, configure, within_limits};
use actix_http::HttpService;
use actix_server::Server;
use actix_service::map_config;
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::middleware::{DefaultHeaders, Next, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long open connections may go on when the server stops. Seconds.
const SHUTDOWN_SECONDS: u64 = 5;

/// How long a connection that is closed may take to be taken away.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// Serves the API on this port until it is stopped; signals are the caller's. One thread serves: `on_thread` is called there
/// first, so that the actor behind the API can run on the same one; a wake-up across threads costs more than a request.
///
/// # Errors
/// When the port cannot be listened on.
pub fn serve(
    listener: TcpListener,
    api: ClientApi,
    on_thread: impl Fn() + Clone + Send + 'static,
) -> std::io::Result<Server> {
    let limits = api.limits;
    let service = move || {
        on_thread();
        let app = App::new()
            .app_data(web::Data::new(api.clone()))
            .wrap(from_fn(within_limits))
            // A cache between would break linearizable reads.
            .wrap(DefaultHeaders::new().add((CACHE_CONTROL, "no-store")).add(("X-Content-Type-Options", "nosniff")))
            .wrap(from_fn(last_answer))
            .wrap(from_fn(counted))
            .configure(configure);
        let clients = api.clients.clone();
        HttpService::build()
            .on_connect_ext(move |_: &TcpStream, data: &mut Extensions| clients.count(data))
            .client_request_timeout(Duration::from_millis(limits.header_timeout_ms))
            .client_disconnect_timeout(DISCONNECT_PATIENCE)
            .tcp_nodelay(true)
            .h1(map_config(app, |()| AppConfig::default()))
            .tcp()
    };
    let server = Server::build().workers(1).max_concurrent_connections(limits.connections_max);
    let server = server.shutdown_timeout(SHUTDOWN_SECONDS).disable_signals();
    Ok(server.listen("clients", listener, service)?.run())
}

/// While the server stops: the connection ends with this answer.
async fn last_answer(
    api: web::Data<ClientApi>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let mut answered = next.call(request).await?;
    if api.stopping.load(Ordering::Relaxed) {
        answered.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::metrics::Sources;
    use crate::settings::{Role, Settings};
    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, ready};
    use lockstep_actors::gateway::{ClientCall, ClusterReport, GatewayHandle};
    use lockstep_protocol::change::Change;
    use lockstep_protocol::operation::{Answer, OperationError};
    use std::net::SocketAddr;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Nobody;

    impl GatewayHandle for Nobody {
        fn call(&self, _: ClientCall) -> BoxFuture<'static, Answer> {
            ready(Answer::Failed(OperationError::Overloaded)).boxed()
        }

        fn cluster(&self) -> BoxFuture<'static, ClusterReport> {
            ready(ClusterReport::default()).boxed()
        }

        fn view_changes(&self, _: usize) -> BoxFuture<'static, Option<Vec<Change>>> {
            ready(None).boxed()
        }

        fn ready(&self) -> BoxFuture<'static, bool> {
            ready(true).boxed()
        }
    }

    fn api() -> ClientApi {
        let variables =
            [("GATEWAY__NAME", "test"), ("CLUSTER__SEEDS", "127.0.0.1:1"), ("CLUSTER__SECRET_FILE", "none")];
        let variables = variables.map(|(name, value)| (format!("LOCKSTEP__{name}"), value.to_owned()));
        ClientApi::new(Arc::new(Nobody), &Settings::from_layers(None, Role::Gateway, variables).expect("settings"))
    }

    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it takes a request");
        let mut bytes = vec![0; 4_096];
        let length = stream.read(&mut bytes).await.expect("it answers");
        String::from_utf8_lossy(&bytes[..length]).to_ascii_lowercase()
    }

    /// The whole answer.
    async fn ask_once(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("taken");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it takes a request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("it answers");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[actix_rt::test]
    async fn requests_and_connections_are_counted_and_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let api = api().telling(Arc::default(), Sources::default());
        let clients = api.clients.clone();
        let server = serve(listener, api, || {}).expect("serves");
        let handle = server.handle();
        actix_rt::spawn(server);
        let mut kept = TcpStream::connect(address).await.expect("taken");
        assert!(ask(&mut kept, "/healthz").await.starts_with("http/1.1 200"));
        for path in ["/nowhere", "/v1/channels/general/messages", "/healthz"] {
            ask_once(address, path).await;
        }
        let told = ask_once(address, "/metrics").await;
        assert!(told.contains("content-type: text/plain; version=0.0.4"), "{told}");
        for sample in [
            "lockstep_request_seconds_count{call=\"healthz\",class=\"2xx\"} 2",
            "lockstep_request_seconds_count{call=\"history\",class=\"5xx\"} 1",
            "lockstep_request_seconds_count{call=\"other\",class=\"4xx\"} 1",
            "lockstep_ready 1",
        ] {
            assert!(told.contains(&format!("\n{sample}\n")), "{sample} is missing: {told}");
        }
        drop(kept);
        // What closes is counted down on the server's thread.
        for _ in 0..500 {
            if clients.count_now() == 0 {
                break;
            }
            actix_rt::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(clients.count_now(), 0, "all have gone");
        handle.stop(true).await;
    }

    #[actix_rt::test]
    async fn a_stopping_server_answers_on_open_connections_and_takes_no_new_ones() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let api = api();
        let stopping = api.stopping();
        let server = serve(listener, api, || {}).expect("serves");
        let handle = server.handle();
        actix_rt::spawn(server);
        let (mut one, mut other) =
            (TcpStream::connect(address).await.expect("taken"), TcpStream::connect(address).await.expect("taken"));
        for stream in [&mut one, &mut other] {
            assert!(!ask(stream, "/readyz").await.contains("connection: close"), "it stays open");
        }

        stopping.store(true, Ordering::Relaxed);
        let stopped = actix_rt::spawn(async move { handle.stop(true).await });
        actix_rt::time::sleep(Duration::from_millis(100)).await;
        assert!(TcpStream::connect(address).await.is_err(), "nobody new is let in");
        for (stream, path, status) in [(&mut one, "/readyz", "503"), (&mut other, "/healthz", "200")] {
            let answer = ask(stream, path).await;
            assert!(answer.starts_with(&format!("http/1.1 {status}")), "{answer}");
            assert!(answer.contains("connection: close"), "{answer}");
            assert_eq!(stream.read(&mut [0]).await.expect("no reset"), 0, "and then it ends");
        }
        stopped.await.expect("it stops once all have gone");
    }
}
