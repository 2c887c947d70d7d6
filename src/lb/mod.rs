//! Load balancing as pure functions: for a request's hash they give the host that Envoy would choose.
//!
//! `hash` turns parts of a request into 64 bits, `priority` says which priority level a hash goes to, and the level's
//! table (`ring`, `maglev`, or one of the policies without a hash) says which host. [`Balancer`] puts them together: it is
//! built once per set of hosts, never changes, and names hosts by their index in the list it was built from.
//!
//! Nothing here knows of sockets, clocks or configuration formats, and nothing reads global state: two builds from the
//! same hosts, in two processes, choose the same.

mod admission;
mod admits;
mod balancer;
mod bounded;
mod choice;
mod config;
mod draw;
mod error;
pub mod hash;
mod host;
mod index;
mod least_request;
mod maglev;
mod member;
mod pool;
pub mod priority;
mod random;
mod remap;
mod ring;
mod round_robin;
mod selector;
pub mod slots;
pub mod split;
mod table;
#[cfg(test)]
mod tests;
pub mod warm_up;
pub mod weighted;

pub use admits::Admits;
pub use balancer::{Balancer, TableInfo, TableKind};
pub use choice::Choice;
pub use config::{BalancerConfig, Policy};
pub use error::TableError;
pub use hash::{HashAccumulator, generated_cookie_value, header_values_hash, murmur_hash_2, source_ip_hash, xxh64};
pub use host::{HostHealth, LbHost, host_key};
pub use maglev::{MAGLEV_SIZE_LIMIT, Maglev, MaglevConfig};
pub use remap::Remapped;
pub use ring::{RING_SIZE_LIMIT, Ring, RingConfig, RingHashFunction};
pub use slots::SlotMap;
pub use split::HashSplit;
pub use weighted::WeightedSplit;
