//! One cluster at a time, ports of its own for each, and waiting for what must come.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Wide: it is about whether, not when.
pub const WIDE: Duration = Duration::from_secs(90);

static GATE: Mutex<()> = Mutex::new(());

/// Waits for its turn. A test that failed leaves the gate open.
pub fn enter() -> MutexGuard<'static, ()> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ports below the range from which the kernel takes those of outgoing connections: a node that is down for a while must
/// find its port free when it returns.
const PORT_FIRST: u16 = 10_000;
const PORTS: u16 = 20_000;

/// A port of this machine that nobody listens on.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 97 * 200).unwrap_or(0);
    loop {
        let port = PORT_FIRST + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Asks until there is an answer; gives up after [`WIDE`].
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < WIDE, "waited {WIDE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
