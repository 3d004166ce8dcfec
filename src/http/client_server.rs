//! The client port: the server under the client API, and how it ends without a client that notices.
//!
//! A server that stops serves whoever has a connection: first the port closes, and what was connected until then is taken; from
//! then on each answer says that it is the last of its connection, so that clients go elsewhere, and what a client sends on an
//! idle connection is answered too. In any other order a client that was sent away comes back to the port that is about to
//! close, and its request is lost. (The web framework's own server also drops who was connected and not yet served.)
//!
//! Not here: what is answered (`client.rs`).

use super::call_metrics;
use super::client::{ClientApi, configure, over};
use actix_http::HttpService;
use actix_rt::Arbiter;
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::{Next, from_fn};
use actix_web::rt::net::{TcpListener, TcpStream};
use actix_web::{App, web};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener as Port;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// How long open connections may go on when the server stops.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection that is closed may take to be taken away.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// How long nobody is let in after the system refused to: it lacks files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A server at work. Dropped, it goes on.
#[derive(Debug)]
pub struct ClientServer {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl ClientServer {
    /// Closes the port, answers what is asked on open connections, and returns when all of them are gone, after 5 s at most.
    pub async fn stop(self) {
        let Self { stop, stopped } = self;
        let _ = stop.send(()); // Its thread may be gone: then it has stopped.
        let _ = stopped.await;
    }
}

/// Serves the API on this port until it is stopped; signals are the caller's. Within an actix system. One thread serves:
/// `on_thread` is called there first, so that the actor behind the API can run on the same one; a wake-up across threads costs
/// more than a request.
///
/// # Errors
/// When the port cannot be listened on.
pub fn serve(port: Port, api: ClientApi, on_thread: impl FnOnce() + Send + 'static) -> io::Result<ClientServer> {
    port.set_nonblocking(true)?;
    let (stop, told) = oneshot::channel();
    let (tell, stopped) = oneshot::channel();
    Arbiter::new().spawn_fn(move || {
        on_thread();
        actix_rt::spawn(async move {
            if let Err(error) = serve_here(port, api, told).await {
                log::error!("the client port: {error}");
            }
            let _ = tell.send(()); // Nobody waits for a server that was dropped.
            Arbiter::current().stop();
        });
    });
    Ok(ClientServer { stop, stopped })
}

async fn serve_here(port: Port, api: ClientApi, told: oneshot::Receiver<()>) -> io::Result<()> {
    let (limits, stopping, clients) = (api.limits, api.stopping.clone(), api.clients.clone());
    let app = App::new().app_data(web::Data::new(api)).wrap(from_fn(around)).configure(configure);
    let service = HttpService::build()
        .on_connect_ext(move |_: &TcpStream, data: &mut Extensions| clients.count(data))
        .client_request_timeout(Duration::from_millis(limits.header_timeout_ms))
        .client_disconnect_timeout(DISCONNECT_PATIENCE)
        .tcp_nodelay(true)
        .h1(map_config(app, |()| AppConfig::default()))
        .tcp();
    let service = service.new_service(()).await.map_err(|()| io::Error::other("the service cannot be made"))?;
    let door = Door { service: Rc::new(service), open: Rc::default(), open_max: limits.connections_max };
    door.serve(TcpListener::from_std(port)?, told, &stopping).await
}

/// Who is let in.
struct Door<S> {
    service: Rc<S>,
    open: Rc<Open>,
    open_max: usize,
}

/// How many are in.
#[derive(Default)]
struct Open {
    count: Cell<usize>,
    left: Notify,
}

/// One of them.
struct Guest(Rc<Open>);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.left.notify_one();
    }
}

impl<S: Service<TcpStream> + 'static> Door<S> {
    async fn serve(
        &self,
        listener: TcpListener,
        told: oneshot::Receiver<()>,
        stopping: &Arc<AtomicBool>,
    ) -> io::Result<()> {
        tokio::select! {
            biased;
            Ok(()) = told => {}
            () = self.take_all(&listener) => {}
        }
        let port = listener.into_std()?;
        while let Ok((stream, _)) = port.accept() {
            stream.set_nonblocking(true)?;
            self.take(TcpStream::from_std(stream)?).await;
        }
        drop(port);
        stopping.store(true, Ordering::Relaxed);
        let all_left = async {
            while self.open.count.get() > 0 {
                self.open.left.notified().await;
            }
        };
        let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, all_left).await; // Who is still there was told nothing new for so long.
        Ok(())
    }

    /// For ever.
    async fn take_all(&self, listener: &TcpListener) {
        loop {
            if self.open.count.get() >= self.open_max {
                self.open.left.notified().await;
                continue;
            }
            match listener.accept().await {
                Ok((stream, _)) => self.take(stream).await,
                // The client's affair.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    log::warn!("no client is let in for {ACCEPT_PAUSE:?}: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection until its end, beside the others.
    async fn take(&self, stream: TcpStream) {
        self.open.count.set(self.open.count.get() + 1);
        let guest = Guest(self.open.clone());
        if poll_fn(|context| self.service.poll_ready(context)).await.is_err() {
            return;
        }
        let served = self.service.call(stream);
        actix_rt::spawn(async move {
            let _ = served.await; // How it ended is its client's affair; what was asked is counted.
            drop(guest);
        });
    }
}

/// Around each request: what is too large is refused before anything else is done, and what is answered is counted.
async fn around(
    api: web::Data<ClientApi>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let (begun, call) = (Instant::now(), call_metrics::place(request.method(), request.path()));
    let mut answered = match over(&request, &api.limits) {
        Some(error) => request.error_response(error).map_into_right_body(),
        None => next.call(request).await?.map_into_left_body(),
    };
    api.calls.answered(call, answered.status(), begun);
    let headers = answered.headers_mut();
    // A cache between would break linearizable reads.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if api.stopping.load(Ordering::Relaxed) {
        // The connection ends with this answer.
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
    use std::net::{SocketAddr, TcpListener};
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
        server.stop().await;
    }

    #[actix_rt::test]
    async fn a_stopping_server_answers_on_open_connections_and_takes_no_new_ones() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let server = serve(listener, api(), || {}).expect("serves");
        let (mut one, mut other) =
            (TcpStream::connect(address).await.expect("taken"), TcpStream::connect(address).await.expect("taken"));
        for stream in [&mut one, &mut other] {
            assert!(!ask(stream, "/readyz").await.contains("connection: close"), "it stays open");
        }

        let stopped = actix_rt::spawn(server.stop());
        while TcpStream::connect(address).await.is_ok() {
            actix_rt::time::sleep(Duration::from_millis(1)).await; // Whoever is let in until then is served, too.
        }
        for (stream, path, status) in [(&mut one, "/readyz", "503"), (&mut other, "/healthz", "200")] {
            let answer = ask(stream, path).await;
            assert!(answer.starts_with(&format!("http/1.1 {status}")), "{answer}");
            assert!(answer.contains("connection: close"), "{answer}");
            assert_eq!(stream.read(&mut [0]).await.expect("no reset"), 0, "and then it ends");
        }
        stopped.await.expect("it stops once all have gone");
    }

    /// The kernel lets clients in before the server knows of them.
    #[actix_rt::test]
    async fn a_client_that_was_connected_when_the_server_stopped_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let server = serve(listener, api(), || {}).expect("serves");
        let mut connected = Vec::new();
        for _ in 0..100 {
            connected.push(TcpStream::connect(address).await.expect("taken"));
        }
        let stopped = actix_rt::spawn(server.stop());
        for mut stream in connected {
            let answer = ask(&mut stream, "/healthz").await;
            assert!(answer.starts_with("http/1.1 200"), "{answer}");
        }
        stopped.await.expect("it stops once all have gone");
    }

    #[actix_rt::test]
    async fn no_more_clients_are_let_in_than_there_may_be() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let mut api = api();
        api.limits.connections_max = 1;
        let server = serve(listener, api, || {}).expect("serves");
        let mut first = TcpStream::connect(address).await.expect("taken");
        assert!(ask(&mut first, "/healthz").await.starts_with("http/1.1 200"));
        let waiting = actix_rt::spawn(async move { ask_once(address, "/healthz").await });
        actix_rt::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished(), "it waits for its turn");
        drop(first);
        assert!(waiting.await.expect("answered").starts_with("HTTP/1.1 200"));
        server.stop().await;
    }
}
