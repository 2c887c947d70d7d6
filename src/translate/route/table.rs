//! Compiled routes by dense id, and who depends on what.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ObjectRef;

use super::compiled::{CompiledRoute, Dependency};

/// Dense number of a route within the memo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::translate) struct RouteId(u32);

/// The compiled routes.
#[derive(Debug, Default)]
pub(in crate::translate) struct RouteTable {
    ids: BTreeMap<ObjectRef, RouteId>,
    slots: Vec<Option<Box<CompiledRoute>>>,
    free: Vec<RouteId>,
    dependents: BTreeMap<Dependency, BTreeSet<RouteId>>,
}

// === impl RouteTable ===

impl RouteTable {
    /// The route with this id.
    pub(in crate::translate) fn get(&self, id: RouteId) -> Option<&CompiledRoute> {
        self.slots.get(id.0 as usize)?.as_deref()
    }

    /// The route of this name.
    pub(in crate::translate) fn named(&self, name: &ObjectRef) -> Option<&CompiledRoute> {
        self.get(*self.ids.get(name)?)
    }

    /// The id of a route, given out if it has none.
    pub(in crate::translate) fn id(&mut self, name: &ObjectRef) -> RouteId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            RouteId(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        self.ids.insert(name.clone(), id);
        id
    }

    /// Puts a compiled route in its place and indexes what it depends on.
    pub(in crate::translate) fn put(&mut self, id: RouteId, route: CompiledRoute) {
        for dependency in &route.dependencies {
            match self.dependents.get_mut(dependency) {
                Some(routes) => drop(routes.insert(id)),
                None => drop(self.dependents.insert(dependency.clone(), BTreeSet::from([id]))),
            }
        }
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = Some(Box::new(route));
        }
    }

    /// Takes a route out; its id stays until `forget`.
    pub(in crate::translate) fn take(&mut self, name: &ObjectRef) -> Option<(RouteId, Box<CompiledRoute>)> {
        let id = *self.ids.get(name)?;
        let route = self.slots.get_mut(id.0 as usize)?.take()?;
        for dependency in &route.dependencies {
            if let Some(routes) = self.dependents.get_mut(dependency) {
                routes.remove(&id);
                if routes.is_empty() {
                    self.dependents.remove(dependency);
                }
            }
        }
        Some((id, route))
    }

    /// Gives the id of a route back.
    pub(in crate::translate) fn forget(&mut self, name: &ObjectRef) {
        if let Some(id) = self.ids.remove(name) {
            self.free.push(id);
        }
    }

    /// Names of the routes that depend on this.
    pub(in crate::translate) fn dependents(&self, dependency: &Dependency) -> impl Iterator<Item = &ObjectRef> {
        self.dependents.get(dependency).into_iter().flatten().filter_map(|id| self.get(*id)).map(|route| &*route.name)
    }
}
