//! The wires between processes: each data node and witness is reached through a relay, which can be cut in either direction,
//! or slowed down.
//!
//! A relay reads the sender's name from the header `Lockstep-From` of a connection's first request. What flows on a cut wire is
//! held and delivered late, the end of a connection too, as TCP would: nobody is told anything, and when the wire heals old
//! letters arrive. Bytes of an answer flow the other way than those of its request, so a wire that is cut one way loses
//! requests of one side and answers of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const SENDER_HEADER: &str = "lockstep-from:";
/// Headers beyond this name nobody.
const HEADER_BYTES_MAX: usize = 16 * 1_024;

/// Cut wires: from whom, to whom.
type Cuts = BTreeSet<(String, String)>;

/// How much later everything gets to whom.
type Delays = BTreeMap<String, Duration>;

/// All wires of a cluster.
#[derive(Clone, Default)]
pub struct Links(Arc<(Mutex<Cuts>, Condvar, Mutex<Delays>)>);

impl Links {
    fn cuts(&self) -> MutexGuard<'_, Cuts> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing gets from any of `from` to any of `to`.
    pub fn cut_one_way(&self, from: &[String], to: &[String]) {
        let mut cuts = self.cuts();
        for source in from {
            cuts.extend(to.iter().map(|target| (source.clone(), target.clone())));
        }
    }

    /// From now on nothing gets from one side to the other, either way.
    pub fn cut(&self, one: &[String], other: &[String]) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// All wires work again, and what was held is delivered.
    pub fn heal(&self) {
        self.cuts().clear();
        self.0.1.notify_all();
    }

    /// From now on everything gets to this process so much later; no time ends it.
    pub fn slow_down(&self, to: &str, by: Duration) {
        self.delays().insert(to.to_owned(), by);
    }

    fn delays(&self) -> MutexGuard<'_, Delays> {
        self.0.2.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as the wire is cut, and then for as long as it is slow.
    fn pass(&self, from: &str, to: &str) {
        let wire = (from.to_owned(), to.to_owned());
        let cuts = self.cuts();
        drop(self.0.1.wait_while(cuts, |cuts| cuts.contains(&wire)));
        let delay = self.delays().get(to).copied().unwrap_or_default();
        thread::sleep(delay);
    }

    /// Relays from this address to the process of that name, for as long as this process runs.
    ///
    /// # Errors
    /// When the address cannot be listened at.
    pub fn relay(&self, address: SocketAddr, name: &str, target: SocketAddr) -> io::Result<()> {
        let listener = TcpListener::bind(address)?;
        let (links, name) = (self.clone(), name.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (links, name) = (links.clone(), name.clone());
                thread::spawn(move || links.serve(stream, &name, target));
            }
        });
        Ok(())
    }

    fn serve(&self, mut near: TcpStream, to: &str, target: SocketAddr) {
        let Some(first) = read_header(&mut near) else { return };
        let from = sender(&first);
        self.pass(&from, to);
        let Ok(mut far) = TcpStream::connect(target) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let (Ok(back_from), Ok(back_to)) = (far.try_clone(), near.try_clone()) else { return };
        if far.write_all(&first).is_err() {
            return;
        }
        let (links, here, there) = (self.clone(), from.clone(), to.to_owned());
        thread::spawn(move || links.pump(back_from, back_to, &there, &here));
        self.pump(near, far, &from, to);
    }

    fn pump(&self, mut source: TcpStream, mut target: TcpStream, from: &str, to: &str) {
        let mut buffer = [0; 64 * 1_024];
        while let Ok(length @ 1..) = source.read(&mut buffer) {
            self.pass(from, to);
            if target.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        self.pass(from, to);
        let _ = target.shutdown(Shutdown::Both);
        let _ = source.shutdown(Shutdown::Both);
    }
}

/// The bytes up to the end of the first header, and what came with them.
fn read_header(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4_096];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") && bytes.len() < HEADER_BYTES_MAX {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => bytes.extend_from_slice(&buffer[..length]),
            Ok(0) | Err(_) => return None,
        }
    }
    Some(bytes)
}

/// Who sent it, as it says; empty for a stranger, whom no cut concerns.
fn sender(header: &[u8]) -> String {
    let text = String::from_utf8_lossy(header).to_ascii_lowercase();
    let line = text.lines().find_map(|line| line.strip_prefix(SENDER_HEADER).map(|name| name.trim().to_owned()));
    line.unwrap_or_default()
}
