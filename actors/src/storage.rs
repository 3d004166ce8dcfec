//! Stand-in until the storage is there.
#![allow(missing_docs)]
use lockstep_protocol::ids::{Incarnation, Voter};
use lockstep_protocol::machine::Limits;
use lockstep_protocol::storage::{Recovered, StorageError, StorageEvent, StorageRequest};
use std::path::Path;
pub type OnEvents = Box<dyn Fn(Vec<StorageEvent>) + Send>;
pub type OnFailure = Box<dyn Fn(StorageError) + Send>;
#[derive(Clone, Debug)]
pub struct StorageHandle;
impl StorageHandle {
    pub fn ask(&self, _: StorageRequest) {}
    pub fn stop(self) {}
}
pub fn start(
    _: &Path,
    _: Voter,
    _: Incarnation,
    _: &Limits,
    _: OnEvents,
    _: OnFailure,
) -> Result<(StorageHandle, Recovered), StorageError> {
    Err(StorageError::Engine("not there yet".into()))
}
