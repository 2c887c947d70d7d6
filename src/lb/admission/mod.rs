//! The members of a level's tables where hosts do not take all hashes that fall on them.

#[cfg(test)]
mod tests;

use crate::lb::admits::Admits;
use crate::lb::config::BalancerConfig;
use crate::lb::error::TableError;
use crate::lb::host::LbHost;
use crate::lb::member::Member;

/// Whom a level's tables are made of.
#[derive(Debug)]
pub(super) struct Admission {
    /// The members of the table, those that take a part or nothing among them as if they took all: so nobody else's hashes move.
    pub(super) members: Vec<Member>,
    /// What is needed where one does not take all.
    pub(super) partial: Option<Partial>,
    /// Hosts that may be chosen and have no entry in the table.
    pub(super) outside: Box<[u32]>,
}

/// What is done with hashes that are not taken.
#[derive(Debug)]
pub(super) struct Partial {
    /// What each host takes, by index.
    pub(super) admits: Box<[Admits]>,
    /// The members of the table for the hashes that are not taken.
    pub(super) fallback: Vec<Member>,
}

impl Admission {
    /// `level` are all hosts of the priority, `selected` those that may be chosen, and those that admit nothing.
    pub(super) fn new(hosts: &[LbHost], level: &[u32], selected: &[u32], config: &BalancerConfig) -> Result<Self, TableError> {
        let admits = |host: &u32| admits(hosts, *host);
        let only = |of: &[u32], wanted: &dyn Fn(Admits) -> bool| of.iter().copied().filter(|host| wanted(admits(host))).collect::<Vec<_>>();
        if !config.uses_hash() {
            let present = |admits: Admits| admits != Admits::None;
            let members = config.members(hosts, &only(level, &present), &only(selected, &present))?;
            return Ok(Self { members, partial: None, outside: Box::default() });
        }
        let is_inside = |admits: Admits| admits != Admits::Keyless;
        let (inside, outside) = (only(selected, &is_inside), only(selected, &|admits| admits == Admits::Keyless));
        if inside.is_empty() {
            let members = config.members(hosts, level, selected)?;
            return Ok(Self { members, partial: None, outside: Box::default() });
        }
        let members = config.members(hosts, &only(level, &is_inside), &inside)?;
        let outside = outside.into_boxed_slice();
        if inside.iter().all(|host| admits(host) == Admits::All) {
            return Ok(Self { members, partial: None, outside });
        }
        // Who takes the others' hashes: where nobody takes all, those that warm up do, and where there is nobody, those outside.
        // Of the members: a locality without weight has none.
        let any_takes_all = members.iter().any(|member| admits(&member.host) == Admits::All);
        let any_warms_up = members.iter().any(|member| matches!(admits(&member.host), Admits::Part(_)));
        let takes_all = |admits: Admits| match admits {
            Admits::All => true,
            Admits::Part(_) => !any_takes_all,
            Admits::Keyless => !any_takes_all && !any_warms_up,
            Admits::None => false,
        };
        let fallback = config.members(hosts, &only(level, &takes_all), &only(selected, &takes_all))?;
        let settle = |host: &LbHost| if takes_all(host.admits) { Admits::All } else { host.admits };
        Ok(Self { members, partial: Some(Partial { admits: hosts.iter().map(settle).collect(), fallback }), outside })
    }

    /// The members with the weights of what they take: what bounds their load.
    pub(super) fn loaded(&self) -> Vec<Member> {
        let Some(partial) = &self.partial else { return self.members.clone() };
        let admits = |member: &Member| partial.admits.get(member.host as usize).copied().unwrap_or_default();
        let taken = |member: &Member| member.weight * f64::from(admits(member).parts());
        let sum: f64 = self.members.iter().map(taken).sum();
        let share = |member: &Member| if sum > 0.0 { taken(member) / sum } else { 0.0 };
        self.members.iter().map(|member| Member { host: member.host, weight: share(member) }).collect()
    }
}

/// What a host takes.
pub(super) fn admits(hosts: &[LbHost], host: u32) -> Admits {
    hosts.get(host as usize).map_or(Admits::None, |host| host.admits)
}
