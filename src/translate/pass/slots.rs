//! Maps of slots of a pass: which targets need one, what ought to become of it, and when.

use std::{collections::BTreeMap, sync::Arc};

use crate::base::{Kind, ObjectName, ObjectRef};
use crate::snapshot::BackendName;
use crate::translate::{
    SlotWrite,
    affinity::AffinitySettings,
    backend::upstream::{BackendView as _, UpstreamHosts},
    cluster,
    slots::{
        desired::{Need, StoredSlots},
        object,
        place::in_advance,
        pods::Pods,
    },
};

use super::Pass;

impl Pass<'_> {
    /// Clusters that have to be built anew since a map of slots has changed or time has passed.
    pub(super) fn slots_touched(&mut self) {
        for name in self.touched(Kind::AffinitySlots) {
            if let Some(target) = self.memo.slots.names.get(&name) {
                self.dirty.backends.extend(self.memo.clusters.of(target.kind, &target.name));
            }
        }
        let Some(now) = self.view.observed.second else { return };
        if self.memo.observed.second.is_none() {
            let targets: Vec<ObjectRef> = self.memo.slots.names.values().cloned().collect();
            self.dirty.backends.extend(targets.iter().flat_map(|target| self.memo.clusters.of(target.kind, &target.name)));
            self.dirty.slots.extend(targets);
        }
        self.dirty.backends.extend(self.memo.due.iter().filter(|(_, due)| **due <= now).map(|(backend, _)| backend.clone()));
        self.dirty.slots.extend(self.memo.slots.due.iter().filter(|(_, due)| **due <= now).map(|(target, _)| target.clone()));
    }

    /// A cluster was built, or is gone.
    pub(super) fn slots_of(&mut self, backend: &BackendName, due: Option<u64>) {
        self.dirty.slots.insert(ObjectRef { kind: backend.kind, name: backend.name.clone() });
        match due {
            Some(due) => drop(self.memo.due.insert(backend.clone(), due)),
            None => drop(self.memo.due.remove(backend)),
        }
    }

    /// Finds out what ought to become of the maps of targets whose clusters or pods are others than before.
    pub(super) fn slots(&mut self) {
        let touched = std::mem::take(&mut self.dirty.slots);
        let mut writes: Option<BTreeMap<ObjectName, SlotWrite>> = None;
        for target in touched {
            let name = object::name_of(&target);
            self.memo.slots.due.remove(&target);
            self.memo.slots.advanced.remove(&target);
            let write = match self.need(&target) {
                Some(need) => {
                    self.memo.slots.names.insert(name.clone(), target.clone());
                    self.next_slots(&target, &name, &need)
                }
                None => {
                    self.memo.slots.names.remove(&name);
                    None
                }
            };
            if self.out.slots.get(&name) != write.as_ref() {
                let writes = writes.get_or_insert_with(|| (*self.out.slots).clone());
                match write {
                    Some(write) => drop(writes.insert(name, write)),
                    None => drop(writes.remove(&name)),
                }
            }
        }
        if *self.out.advanced_slots != self.memo.slots.advanced {
            self.out.advanced_slots = Arc::new(self.memo.slots.advanced.clone());
        }
        if let Some(writes) = writes {
            self.out.slots = Arc::new(writes);
        }
        let due = self.memo.due.values().copied().min();
        self.out.due = due.into_iter().chain(self.memo.slots.due()).min();
    }

    /// What the policies ask for that count for the clusters of a target.
    fn need(&self, target: &ObjectRef) -> Option<Need> {
        let used = self.memo.clusters.of(target.kind, &target.name).into_iter().filter(|backend| !self.memo.clusters.is_retired(backend));
        let settings: Vec<Arc<AffinitySettings>> =
            used.filter_map(|backend| self.memo.affinity.of_backend(&backend, self.view.resources)?.ok()).collect();
        Need::of(settings.iter().map(|settings| &**settings))
    }

    /// The write that is due, if any; remembers when to ask again.
    fn next_slots(&mut self, target: &ObjectRef, name: &ObjectName, need: &Need) -> Option<SlotWrite> {
        let (pods, target_uid) = self.pods_of(target)?;
        let stored = self.view.resources.affinity_slots(name);
        let spec = stored.map(|stored| &stored.spec).filter(|spec| object::target_of(name, spec).as_ref() == Some(target));
        let serving = self.view.slots(target).map(|(stored, served)| {
            let map = in_advance(&stored, served, &pods, self.view.observed.second);
            if stored != map {
                self.memo.slots.advanced.insert(target.clone(), map.clone());
            }
            map
        });
        let now = self.view.observed.second?;
        let next = need.next(spec.zip(serving.as_ref()), &pods, now);
        if let Some(due) = next.due {
            self.memo.slots.due.insert(target.clone(), due);
        }
        let wanted = next.spec(target);
        if spec == Some(&wanted) {
            return None;
        }
        let stored = stored.map(|stored| StoredSlots {
            resource_version: stored.metadata.resource_version.as_deref().map(Into::into),
            spec: stored.spec.clone(),
        });
        Some(SlotWrite { target: target.clone(), target_uid, name: name.clone(), spec: wanted, stored })
    }

    /// The pods of a target, and its uid; `None`: it is not there.
    fn pods_of(&self, target: &ObjectRef) -> Option<(Pods, Option<Box<str>>)> {
        let uid = |uid: &Option<String>| uid.as_deref().map(Into::into);
        if target.kind == Kind::Upstream {
            let upstream = self.memo.gloo.upstream(&target.name)?;
            let object = self.view.resources.upstream(&target.name)?;
            let hosts = match &upstream.hosts {
                UpstreamHosts::Static(hosts) => cluster::static_hosts(hosts, &upstream.settings, &self.view, self.view.endpoint_rules()),
                UpstreamHosts::None | UpstreamHosts::Service(_) => Vec::new(),
            };
            return Some((cluster::pods_of_upstream(upstream, &hosts, &self.view), uid(&object.metadata.uid)));
        }
        let service = self.view.resources.service(&target.name)?;
        Some((Pods::of_service(service, &self.view.slices(&target.name)), uid(&service.metadata.uid)))
    }
}
