//! The sources of changes, and the engine that translates them and publishes the snapshot.

mod clock;
mod engine;
mod files;
mod kube;
mod manifests;
mod moves;
mod resolver;
mod slots_file;
mod state;

pub use clock::Clock;
pub use engine::{Engine, EngineConfig, EngineHandle, Input, Observer, Report, SlotKeeper};
pub use files::{Directory, Documents, FilesError, Update, read_directory, read_documents};
pub use kube::{
    ClusterError, ClusterEvent, ClusterHandle, ClusterSettings, ConnectError, CrdApplyError, CrdTurn, Outbox, ReleaseError,
    ReleaseSettings, Released, Replicas, Sink, SurveyError, apply_crds, release_install, start_cluster, survey,
};
pub use manifests::{FileChange, Manifests, Notice, NoticeBlocks};
pub use moves::{MoveObserver, Moved};
pub use resolver::resolve_names;
pub use state::{StateDirectory, StateError};
