//! What the engine says of the tables that it has replaced, and what is found out of it.

use std::sync::Arc;

use crate::base::ObjectRef;
use crate::snapshot::{Cluster, Move, Pods, Remapped};

/// A table that replaced another one, or began.
#[derive(Debug)]
pub(in crate::controller) struct TableChange {
    /// The cluster whose table it replaced; `None`: no session was anywhere before, or this is not the table of its hosts yet.
    pub(in crate::controller) old: Option<Arc<Cluster>>,
    /// The cluster now.
    pub(in crate::controller) new: Arc<Cluster>,
    /// What it does to the keys, where whoever built it has found out.
    pub(in crate::controller) remapped: Option<Remapped>,
    /// Pods that left and are there still, but not ready.
    pub(in crate::controller) unready: Pods,
    /// The uid of the backend, where known.
    pub(in crate::controller) uid: Option<Box<str>>,
}

/// What a publication did to the tables.
#[derive(Debug)]
pub(in crate::controller) struct Publication {
    /// The tables that differ from those before.
    pub(in crate::controller) changes: Vec<TableChange>,
    /// Generation of the snapshot.
    pub(in crate::controller) generation: u64,
    /// All clusters, as they are now.
    pub(in crate::controller) clusters: Arc<[Option<Arc<Cluster>>]>,
}

/// What happened to the sessions of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// The Service or Upstream.
    pub object: ObjectRef,
    /// Its uid, where known.
    pub uid: Option<Box<str>>,
    /// What happened.
    pub moved: Move,
}
