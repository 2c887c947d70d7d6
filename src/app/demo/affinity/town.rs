//! What pods there are, and what becomes of them. Pure: who acts on it is elsewhere.

use std::{collections::BTreeSet, fmt::Write as _, net::Ipv4Addr};

/// Most pods at a time.
const MOST: usize = 9;

/// The first pod's last part of its address in 127.0.0.0/8; no pod before has had a new one's.
const FIRST: u8 = 2;

/// A pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pod(pub(super) u8);

/// The pods of the scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Town {
    ready: BTreeSet<Pod>,
    /// They serve, and will end.
    ending: BTreeSet<Pod>,
    next: u8,
}

/// A step: what there is after it, and what to call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) town: Town,
    pub(super) what: String,
}

// === impl Pod ===

impl Pod {
    pub(super) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 0, self.0)
    }

    pub(super) fn name(self) -> String {
        format!("cart-{}", self.0)
    }
}

// === impl Town ===

impl Town {
    pub(super) fn new(pods: u8) -> Self {
        Self { ready: (FIRST..FIRST + pods).map(Pod).collect(), ending: BTreeSet::new(), next: FIRST + pods }
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = Pod> {
        self.ready.iter().copied()
    }

    /// All pods that serve.
    pub(super) fn serving(&self) -> impl Iterator<Item = Pod> {
        self.ready.iter().chain(&self.ending).copied()
    }

    /// One pod more.
    pub(super) fn grown(&self) -> Result<Step, String> {
        if self.ready.len() >= MOST {
            return Err(format!("{MOST} pods are the most"));
        }
        let mut town = self.clone();
        let pod = town.start()?;
        Ok(self.step(town, &format!("{} came", pod.name())))
    }

    /// One pod fewer: the youngest, as a ReplicaSet does.
    pub(super) fn shrunk(&self) -> Result<Step, String> {
        let mut town = self.clone();
        let pod = town.ready.pop_last().filter(|_| !town.ready.is_empty()).ok_or("one pod is the fewest")?;
        Ok(self.step(town, &format!("{} went", pod.name())))
    }

    /// The oldest pod is Terminating, and serves on for a while.
    pub(super) fn draining(&self) -> Result<Step, String> {
        let mut town = self.clone();
        let pod = town.ready.pop_first().filter(|_| !town.ready.is_empty()).ok_or("one pod is the fewest")?;
        town.ending.insert(pod);
        Ok(self.step(town, &format!("{} is Terminating", pod.name())))
    }

    /// The pods that were Terminating are gone.
    pub(super) fn drained(&self) -> Option<Step> {
        let names: Vec<_> = self.ending.iter().map(|pod| pod.name()).collect();
        let town = Self { ending: BTreeSet::new(), ..self.clone() };
        (!names.is_empty()).then(|| self.step(town, &format!("{} gone", names.join(", "))))
    }

    /// A rollout with `maxSurge: 1`: each pod gets a successor, and goes.
    pub(super) fn rolled(&self) -> Result<Vec<Step>, String> {
        let (mut steps, mut before) = (Vec::new(), self.clone());
        for old in self.ready() {
            let mut surged = before.clone();
            let new = surged.start()?;
            let came = before.step(surged, &format!("rollout: {} came", new.name()));
            let mut left = came.town.clone();
            left.ready.remove(&old);
            let went = came.town.step(left, &format!("rollout: {} went", old.name()));
            before = went.town.clone();
            steps.extend([came, went]);
        }
        Ok(steps)
    }

    fn start(&mut self) -> Result<Pod, String> {
        let next = self.next.checked_add(1).ok_or("there are no more addresses for pods; start the demo again")?;
        let pod = Pod(std::mem::replace(&mut self.next, next));
        self.ready.insert(pod);
        Ok(pod)
    }

    fn step(&self, town: Self, why: &str) -> Step {
        let (before, after) = (self.ready.len(), town.ready.len());
        let count = if before == after { format!("{after} pods") } else { format!("{before} -> {after} pods") };
        Step { what: format!("{count}, {why}"), town }
    }

    /// The EndpointSlice.
    pub(super) fn manifest(&self, port: u16) -> String {
        let mut text =
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: cart-1\n  namespace: shop\n  labels:\n    \
                        kubernetes.io/service-name: cart\naddressType: IPv4\n"
                .to_owned();
        // Writing to a string does not fail.
        let _ = write!(text, "ports:\n- name: http\n  port: {port}\nendpoints:\n");
        for pod in self.serving() {
            let (name, is_ready) = (pod.name(), self.ready.contains(&pod));
            let _ = write!(
                text,
                "- addresses: [{}]\n  hostname: {name}\n  conditions: {{ready: {is_ready}, serving: true, terminating: {}}}\n  \
                 targetRef: {{kind: Pod, namespace: shop, name: {name}, uid: demo-{}}}\n",
                pod.address(),
                !is_ready,
                pod.0
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(town: &Town) -> Vec<String> {
        town.serving().map(Pod::name).collect()
    }

    #[test]
    fn a_rollout_replaces_every_pod_and_never_has_fewer() {
        let town = Town::new(3);
        let steps = town.rolled().unwrap();
        assert_eq!(steps.len(), 6);
        assert!(steps.iter().all(|step| step.town.ready.len() >= 3));
        assert_eq!(names(&steps.last().unwrap().town), ["cart-5", "cart-6", "cart-7"]);
        assert_eq!(steps[0].what, "3 -> 4 pods, rollout: cart-5 came");
    }

    #[test]
    fn a_drained_pod_serves_until_it_is_gone() {
        let step = Town::new(3).draining().unwrap();
        assert_eq!(names(&step.town), ["cart-3", "cart-4", "cart-2"]);
        assert!(step.town.manifest(80).contains("{ready: false, serving: true, terminating: true}"));
        assert_eq!(names(&step.town.drained().unwrap().town), ["cart-3", "cart-4"]);
        assert_eq!(Town::new(3).drained(), None);
    }

    #[test]
    fn there_is_always_a_pod_and_no_pod_comes_twice() {
        assert!(Town::new(1).shrunk().is_err() && Town::new(1).draining().is_err());
        let mut town = Town::new(3);
        let mut seen: BTreeSet<_> = town.ready().collect();
        while let Ok(step) = town.grown() {
            assert!(seen.insert(*step.town.ready.last().unwrap()));
            town = step.town;
        }
        assert_eq!(town.ready.len(), MOST);
        for _ in 0..1000 {
            let Ok(steps) = town.rolled() else { return };
            town = steps.last().unwrap().town.clone();
        }
        panic!("addresses are endless");
    }
}
