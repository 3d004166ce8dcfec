//! What a disk holds after each recorded change: replayed in memory, written out as a directory.
//!
//! The model: a flush of a file makes its contents durable, and a flush of a directory its names; nothing else does. What is
//! not durable may be lost, and is lost here in the worst of three ways (`Way`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How the process, or the machine, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The process is killed: the kernel keeps all that was written.
    Stop,
    /// The same, in the middle of the last write.
    Tear,
    /// The power fails: what was not flushed is lost.
    Lose,
}

/// One recorded change (`shim.c`).
#[derive(Debug)]
pub struct Change {
    pub kind: u8,
    handle: u32,
    number: u64,
    first: String,
    second: Vec<u8>,
}

impl Change {
    /// Whether it removes a table of an engine in use.
    pub fn removes_table(&self) -> bool {
        self.kind == b'u' && self.first.starts_with("data/engine/") && self.first.contains("/tables/")
    }
}

/// All changes, in order.
pub fn read(journal: &Path, root: &Path) -> Vec<Change> {
    let bytes = fs::read(journal).expect("the recorder wrote a journal");
    let mut at = 0;
    let mut changes = Vec::new();
    let mut take = |count: usize| {
        at += count;
        &bytes[at - count..at]
    };
    let four = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let total = bytes.len();
    let mut read = 0;
    while read < total {
        let kind = take(1)[0];
        let handle = four(take(4));
        let number = u64::from_le_bytes(take(8).try_into().expect("eight bytes"));
        let (first, second) = (four(take(4)) as usize, four(take(4)) as usize);
        let path = String::from_utf8_lossy(take(first)).into_owned();
        let rest = take(second).to_vec();
        read += 21 + first + second;
        let is_path = matches!(kind, b'r' | b'l');
        let second = if is_path { below(&String::from_utf8_lossy(&rest), root).into_bytes() } else { rest };
        changes.push(Change { kind, handle, number, first: below(&path, root), second });
    }
    changes
}

fn below(path: &str, root: &Path) -> String {
    let root = root.to_str().expect("a path of text");
    path.strip_prefix(root).unwrap_or(path).trim_start_matches('/').to_owned()
}

type Id = usize;

/// A file's bytes; zeros behind the last that was written take no room.
#[derive(Clone, Debug, Default)]
struct Bytes {
    written: Vec<u8>,
    length: u64,
}

impl Bytes {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let offset = usize::try_from(offset).expect("small files");
        let end = offset + bytes.len();
        if self.written.len() < end {
            self.written.resize(end, 0);
        }
        self.written[offset..end].copy_from_slice(bytes);
        self.length = self.length.max(end as u64);
    }

    fn cut(&mut self, length: u64) {
        self.written.truncate(usize::try_from(length).expect("small files"));
        self.length = length;
    }
}

#[derive(Clone, Debug)]
enum Node {
    File { now: Bytes, durable: Bytes },
    Directory { now: BTreeMap<String, Id>, durable: BTreeMap<String, Id> },
}

fn directory() -> Node {
    Node::Directory { now: BTreeMap::new(), durable: BTreeMap::new() }
}

/// A disk.
#[derive(Clone)]
pub struct Disk {
    nodes: Vec<Node>,
    handles: BTreeMap<u32, Id>,
}

const ROOT: Id = 0;

impl Disk {
    /// With nothing but its root, which is durable.
    pub fn new() -> Self {
        Self { nodes: vec![directory()], handles: BTreeMap::new() }
    }

    fn find(&self, path: &str) -> Option<Id> {
        let mut id = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let Node::Directory { now, .. } = &self.nodes[id] else { return None };
            id = *now.get(part)?;
        }
        Some(id)
    }

    fn names(&mut self, path: &str) -> (&mut BTreeMap<String, Id>, String) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.find(folder).unwrap_or_else(|| panic!("{path}: its folder is there"));
        match &mut self.nodes[folder] {
            Node::Directory { now, .. } => (now, name.to_owned()),
            Node::File { .. } => panic!("{path}: its folder is one"),
        }
    }

    fn put(&mut self, path: &str, node: Node) -> Id {
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        let (names, name) = self.names(path);
        names.insert(name, id);
        id
    }

    fn remove(&mut self, path: &str) -> Id {
        let (names, name) = self.names(path);
        names.remove(&name).unwrap_or_else(|| panic!("{path} was there"))
    }

    /// What the change does.
    pub fn apply(&mut self, change: &Change) {
        self.apply_part(change, change.second.len());
    }

    /// The same, but of a write only the first half.
    pub fn apply_torn(&mut self, change: &Change) {
        let bytes = if change.kind == b'w' { change.second.len() / 2 } else { change.second.len() };
        self.apply_part(change, bytes);
    }

    fn apply_part(&mut self, change: &Change, bytes: usize) {
        let Change { kind, handle, number, first, second } = change;
        let second_path = || String::from_utf8_lossy(second).into_owned();
        match kind {
            b'c' => {
                let id = self.put(first, Node::File { now: Bytes::default(), durable: Bytes::default() });
                self.handles.insert(*handle, id);
            }
            b'o' => {
                let id = self.find(first).unwrap_or_else(|| panic!("{first} was opened"));
                self.handles.insert(*handle, id);
                if let (Node::File { now, .. }, 1) = (&mut self.nodes[id], number) {
                    now.cut(0);
                }
            }
            b'm' => drop(self.put(first, directory())),
            b'u' | b'd' => drop(self.remove(first)),
            b'w' => self.file(*handle).write(*number, &second[..bytes]),
            b't' => self.file(*handle).cut(*number),
            b's' => self.flush(*handle),
            b'r' => {
                let id = self.remove(first);
                let (names, name) = self.names(&second_path());
                names.insert(name, id);
            }
            b'l' => {
                let id = self.find(first).unwrap_or_else(|| panic!("{first} was linked"));
                let (names, name) = self.names(&second_path());
                names.insert(name, id);
            }
            other => panic!("{:?} is no kind of change", char::from(*other)),
        }
    }

    fn file(&mut self, handle: u32) -> &mut Bytes {
        match &mut self.nodes[self.handles[&handle]] {
            Node::File { now, .. } => now,
            Node::Directory { .. } => panic!("a directory is not written to"),
        }
    }

    fn flush(&mut self, handle: u32) {
        match &mut self.nodes[self.handles[&handle]] {
            Node::File { now, durable } => durable.clone_from(now),
            Node::Directory { now, durable } => durable.clone_from(now),
        }
    }

    /// What lies in a file now; nothing when there is none.
    pub fn contents(&self, path: &str) -> Vec<u8> {
        match self.find(path).map(|id| &self.nodes[id]) {
            Some(Node::File { now, .. }) => now.written.clone(),
            Some(Node::Directory { .. }) | None => Vec::new(),
        }
    }

    /// Writes out a folder of it as it is found after such an end.
    pub fn write_out(&self, folder: &str, way: Way, to: &Path) {
        let mut id = Some(ROOT);
        for part in folder.split('/') {
            id = id.and_then(|id| self.entries(id, way).get(part).copied());
        }
        fs::create_dir_all(to).expect("creates");
        if let Some(id) = id {
            self.write_folder(id, way, to);
        }
    }

    fn entries(&self, id: Id, way: Way) -> &BTreeMap<String, Id> {
        match &self.nodes[id] {
            Node::Directory { durable, .. } if way == Way::Lose => durable,
            Node::Directory { now, .. } => now,
            Node::File { .. } => panic!("no folder"),
        }
    }

    fn write_folder(&self, id: Id, way: Way, to: &Path) {
        for (name, id) in self.entries(id, way) {
            let path = to.join(name);
            match &self.nodes[*id] {
                Node::Directory { .. } => {
                    fs::create_dir(&path).expect("creates");
                    self.write_folder(*id, way, &path);
                }
                Node::File { now, durable } => {
                    let bytes = if way == Way::Lose { durable } else { now };
                    let file = File::create(&path).expect("creates");
                    file.set_len(bytes.length).expect("sets");
                    file.write_all_at(&bytes.written, 0).expect("writes");
                }
            }
        }
    }
}
