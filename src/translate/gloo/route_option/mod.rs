//! RouteOption: what it says, which of several options a rule gets, and what they do to the rule.

mod compile;
mod compiled;
mod duration;
mod lb_hash;
mod merge;
mod retries;
mod rewrite;
pub(in crate::translate) mod targets;

pub(in crate::translate) use compile::compile;

pub use compiled::{CompiledRouteOption, OptionValue};
pub use merge::{Contribution, MergedOptions, Refusal, merge};

#[cfg(test)]
mod tests;
