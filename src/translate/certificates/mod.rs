//! Secrets as certificates, with the last good one of each; ConfigMaps and Secrets as authorities.

mod pem;
mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::base::{Kind, ObjectName, ObjectRef};
use crate::snapshot::Certificate;
use crate::translate::Resources;

pub(super) use read::Authorities;

/// The objects that are referred to for what they hold. What one translation finds usable in a Secret, the next may fall back to.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    known: BTreeMap<ObjectName, Known>,
    maps: BTreeMap<ObjectName, KnownMap>,
    wanted: BTreeSet<ObjectRef>,
}

/// One ConfigMap.
#[derive(Debug)]
struct KnownMap {
    /// What the rest was found out from.
    source: Arc<ConfigMap>,
    authorities: Result<Authorities, String>,
}

/// One Secret.
#[derive(Debug, Default)]
struct Known {
    /// What the rest was found out from.
    source: Option<Arc<Secret>>,
    good: Option<Arc<Certificate>>,
    problem: Option<String>,
    oddities: Arc<[String]>,
    /// The Secret was there, so that `authorities` says whether it names some.
    was_read: bool,
    authorities: Option<Authorities>,
    authorities_problem: Option<String>,
}

/// What became of a reference to a Secret.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// What serves: the certificate of the Secret, or the last one of it that was usable.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Why the Secret as it is now cannot be used.
    pub(super) problem: Option<String>,
    /// What is odd about the certificate although it serves.
    pub(super) oddities: Arc<[String]>,
    /// The authorities of clients that the Secret names, or the last ones of it that were usable. They do not depend on `certificate`: whom to
    /// trust is not to wait for a certificate to be mended.
    pub(super) authorities: Option<Authorities>,
    /// Nothing is known of the Secret: it may name authorities.
    pub(super) is_unknown: bool,
    /// Why the authorities as they are now cannot be used; matters only where they are asked for.
    pub(super) authorities_problem: Option<String>,
}

// === impl Certificates ===

impl Certificates {
    /// The objects that were asked for between `begin` and `end`.
    pub(super) fn wanted(&self) -> &BTreeSet<ObjectRef> {
        &self.wanted
    }

    /// Forgets what is wanted, not what is known.
    pub(super) fn begin(&mut self) {
        self.wanted.clear();
    }

    /// Forgets what nobody asked for since `begin`.
    pub(super) fn end(&mut self) {
        let wanted = &self.wanted;
        let is_wanted = |kind: Kind, name: &ObjectName| wanted.contains(&ObjectRef { kind, name: name.clone() });
        self.known.retain(|name, _| is_wanted(Kind::Secret, name));
        self.maps.retain(|name, _| is_wanted(Kind::ConfigMap, name));
    }

    /// The authorities that a ConfigMap or a Secret names. There is no last good version of whom to trust: Gateway API asks that what relies on
    /// authorities which cannot be read fails.
    ///
    /// # Errors
    /// Object, field and expectation.
    pub(super) fn authorities(&mut self, object: &ObjectRef, resources: &Resources) -> Result<Authorities, String> {
        let authorities = match object.kind {
            Kind::Secret => self.authorities_of_secret(&object.name, resources),
            _ => self.authorities_of_map(&object.name, resources),
        };
        match resources.refused(object) {
            Some(refused) => Err(format!("{object}: {}", refused.message)),
            None => authorities,
        }
    }

    fn authorities_of_secret(&mut self, name: &ObjectName, resources: &Resources) -> Result<Authorities, String> {
        let found = self.find(name, resources);
        if resources.secret(name).is_none() {
            return Err(format!("Secret {name} does not exist"));
        }
        match (found.authorities_problem, found.authorities) {
            (Some(problem), _) => Err(problem),
            (None, Some(authorities)) => Ok(authorities),
            (None, None) => Err(format!("Secret {name}: {}", read::NO_AUTHORITIES)),
        }
    }

    fn authorities_of_map(&mut self, name: &ObjectName, resources: &Resources) -> Result<Authorities, String> {
        self.wanted.insert(ObjectRef { kind: Kind::ConfigMap, name: name.clone() });
        let Some(map) = resources.config_map(name) else {
            self.maps.remove(name);
            return Err(format!("ConfigMap {name} does not exist"));
        };
        let is_read = |known: &KnownMap| {
            let (source, now) = (&known.source, map);
            Arc::ptr_eq(source, now) || (source.data == now.data && source.binary_data == now.binary_data)
        };
        if let Some(known) = self.maps.get(name).filter(|known| is_read(known)) {
            return known.authorities.clone();
        }
        let authorities = read::authorities_of_map(map).map_err(|problem| format!("ConfigMap {name}: {problem}"));
        self.maps.insert(name.clone(), KnownMap { source: Arc::clone(map), authorities: authorities.clone() });
        authorities
    }

    /// The certificate in a Secret.
    pub(super) fn find(&mut self, name: &ObjectName, resources: &Resources) -> Found {
        self.wanted.insert(ObjectRef { kind: Kind::Secret, name: name.clone() });
        let known = self.known.entry(name.clone()).or_default();
        match resources.secret(name) {
            Some(secret) => known.look_at(name, secret),
            None => {
                known.source = None;
                known.problem = Some(format!("Secret {name} does not exist"));
            }
        }
        let undecodable = resources.refused(&ObjectRef { kind: Kind::Secret, name: name.clone() });
        let problem = undecodable.map(|refused| format!("Secret {name}: {}", refused.message)).or_else(|| known.problem.clone());
        Found {
            certificate: known.good.clone(),
            problem,
            oddities: Arc::clone(&known.oddities),
            authorities: known.authorities.clone(),
            is_unknown: !known.was_read,
            authorities_problem: known.authorities_problem.clone(),
        }
    }
}

// === impl Known ===

impl Known {
    fn look_at(&mut self, name: &ObjectName, secret: &Arc<Secret>) {
        if self.source.as_ref().is_some_and(|source| Arc::ptr_eq(source, secret) || is_same(source, secret)) {
            return;
        }
        self.source = Some(Arc::clone(secret));
        match read::certificate(name, secret) {
            Ok(read) => {
                self.problem = None;
                self.oddities = read.oddities.into_iter().map(|oddity| format!("Secret {name}: {oddity}")).collect();
                if self.good.as_deref() != Some(&read.certificate) {
                    self.good = Some(Arc::new(read.certificate));
                }
            }
            Err(problem) => self.problem = Some(format!("Secret {name}: {problem}")),
        }
        self.was_read = true;
        match read::authorities(secret) {
            Ok(authorities) => {
                self.authorities_problem = None;
                if self.authorities != authorities {
                    self.authorities = authorities;
                }
            }
            Err(problem) => self.authorities_problem = Some(format!("Secret {name}: {problem}")),
        }
    }
}

/// Secrets are read again and again: what matters is whether they say something else.
fn is_same(one: &Secret, other: &Secret) -> bool {
    one.type_ == other.type_ && one.data == other.data
}

#[cfg(test)]
mod tests;
