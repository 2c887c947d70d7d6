//! The finalizer on GatewayClasses that Gateways use, as the Gateway API suggests it: who deletes such a class by mistake does not close the
//! Gateways' ports at once. Pure.
//!
//! A class that is being deleted cannot be kept for ever: whoever replaces one waits for its end, and nobody else would let it go. So it is
//! held for the time that Services rest.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

/// The name that the Gateway API gives it (`GatewayClassFinalizerGatewaysExist`).
pub(super) const FINALIZER: &str = "gateway-exists-finalizer.gateway.networking.k8s.io";

/// A GatewayClass as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SeenClass {
    resource_version: String,
    finalizers: Vec<String>,
    /// When its deletion began, in seconds since the epoch.
    deleted: Option<i64>,
}

/// What to do about the finalizer of a class.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FinalizerTurn {
    /// It is as it ought to be.
    Nothing,
    /// Write this JSON merge patch.
    Patch(Value),
    /// The class is being deleted and is held for this long.
    Hold(Duration),
}

// === impl SeenClass ===

impl SeenClass {
    /// What counts of a class.
    pub(super) fn of(class: &Value) -> Self {
        let text = |pointer: &str| class.pointer(pointer).and_then(Value::as_str);
        let finalizers = class.pointer("/metadata/finalizers").and_then(Value::as_array).into_iter().flatten();
        let deleted: Option<Time> = class.pointer("/metadata/deletionTimestamp").and_then(|time| serde_json::from_value(time.clone()).ok());
        Self {
            resource_version: text("/metadata/resourceVersion").unwrap_or_default().to_owned(),
            finalizers: finalizers.filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
            deleted: deleted.map(|time| time.0.as_second()),
        }
    }

    /// What to do now, in seconds since the epoch. `is_used`: a Gateway names the class. `hold`: how long one that is deleted is held.
    pub(super) fn turn(&self, is_used: bool, hold: Duration, now: i64) -> FinalizerTurn {
        let has = self.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        let held_until = self.deleted.map(|deleted| deleted.saturating_add_unsigned(hold.as_secs()));
        match (has, is_used, held_until) {
            // The API server takes no new finalizer on what is being deleted.
            (false, true, None) => self.with_finalizer(),
            (true, true, Some(until)) if until > now => FinalizerTurn::Hold(Duration::from_secs(until.saturating_sub(now).unsigned_abs())),
            (true, true, Some(_)) | (true, false, _) => self.without_finalizer().map_or(FinalizerTurn::Nothing, FinalizerTurn::Patch),
            (true, true, None) | (false, _, _) => FinalizerTurn::Nothing,
        }
    }

    fn with_finalizer(&self) -> FinalizerTurn {
        let finalizers: Vec<&str> = self.finalizers.iter().map(String::as_str).chain([FINALIZER]).collect();
        FinalizerTurn::Patch(self.patch(&finalizers))
    }

    /// The patch that takes the finalizer away; `None`: it is not there.
    pub(super) fn without_finalizer(&self) -> Option<Value> {
        let finalizers: Vec<&str> = self.finalizers.iter().map(String::as_str).filter(|finalizer| *finalizer != FINALIZER).collect();
        (finalizers.len() < self.finalizers.len()).then(|| self.patch(&finalizers))
    }

    fn patch(&self, finalizers: &[&str]) -> Value {
        json!({"metadata": {"resourceVersion": self.resource_version, "finalizers": finalizers}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(60);
    /// 2026-01-01T00:00:00Z.
    const DELETED: i64 = 1_767_225_600;

    fn class(finalizers: &[&str], deleted: bool) -> SeenClass {
        let mut class = json!({"metadata": {"name": "c", "resourceVersion": "7", "finalizers": finalizers}});
        if deleted {
            class["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        SeenClass::of(&class)
    }

    fn patch(finalizers: &[&str]) -> FinalizerTurn {
        FinalizerTurn::Patch(json!({"metadata": {"resourceVersion": "7", "finalizers": finalizers}}))
    }

    #[test]
    fn a_class_has_the_finalizer_exactly_while_a_gateway_uses_it_and_those_of_others_stay() {
        let turn = |finalizers: &[&str], is_used| class(finalizers, false).turn(is_used, HOLD, DELETED);
        assert_eq!(turn(&[], true), patch(&[FINALIZER]));
        assert_eq!(turn(&["a"], true), patch(&["a", FINALIZER]));
        assert_eq!(turn(&["a", FINALIZER], true), FinalizerTurn::Nothing);
        assert_eq!(turn(&["a", FINALIZER, "b"], false), patch(&["a", "b"]));
        assert_eq!(turn(&["a"], false), FinalizerTurn::Nothing);
    }

    #[test]
    fn a_class_that_is_deleted_is_held_while_it_is_used_but_not_for_ever() {
        let turn = |finalizers: &[&str], is_used, after| class(finalizers, true).turn(is_used, HOLD, DELETED + after);
        assert_eq!(turn(&[FINALIZER], true, 0), FinalizerTurn::Hold(HOLD));
        assert_eq!(turn(&[FINALIZER], true, 59), FinalizerTurn::Hold(Duration::from_secs(1)));
        assert_eq!(turn(&[FINALIZER], true, 60), patch(&[]));
        assert_eq!(turn(&[FINALIZER], false, 0), patch(&[]));
        assert_eq!(turn(&["a"], true, 0), FinalizerTurn::Nothing, "no finalizer can be added any more");
        assert_eq!(class(&[FINALIZER], true).turn(true, Duration::ZERO, DELETED), patch(&[]));
    }

    #[test]
    fn a_class_of_any_shape_can_be_read() {
        for odd in [json!(null), json!({"metadata": {"finalizers": {}, "deletionTimestamp": 5}}), json!({"metadata": {"finalizers": [1]}})]
        {
            assert_eq!(SeenClass::of(&odd).turn(false, HOLD, 0), FinalizerTurn::Nothing);
        }
    }
}
