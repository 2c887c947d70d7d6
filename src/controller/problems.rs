//! What a person should read of a status: the conditions that say no.

use crate::translate::{Condition, GlooState, Status};

/// Condition types that are bad when True.
const NEGATIVE: [&str; 2] = ["Conflicted", "PartiallyInvalid"];

/// Everything in the status that is refused or warned of, in one line; `None` where all is well.
pub fn problems(status: &Status) -> Option<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |place: &str, conditions: &[Condition]| {
        for condition in conditions.iter().filter(|condition| is_bad(condition)) {
            let Condition { condition_type, status, reason, message, .. } = condition;
            let line = format!("{place}{condition_type}={status} ({reason}): {message}");
            if !found.contains(&line) {
                found.push(line);
            }
        }
    };
    match status {
        Status::GatewayClass(class) => add("", &class.conditions),
        Status::Gateway(gateway) => {
            add("", &gateway.conditions);
            gateway.listeners.iter().for_each(|listener| add(&format!("listener {}: ", listener.name), &listener.conditions));
        }
        Status::Route(route) => {
            for parent in &route.parents {
                let section = parent.parent_ref.section_name.as_ref().map(|name| format!(" listener {name}")).unwrap_or_default();
                add(&format!("at {} {}{section}: ", parent.parent_ref.kind, parent.parent_ref.name), &parent.conditions);
            }
        }
        Status::Gloo(gloo) => {
            let bad = gloo.statuses.values().filter(|status| status.state != GlooState::Accepted);
            found.extend(bad.map(|status| format!("{:?}: {}", status.state, status.reason)));
        }
    }
    (!found.is_empty()).then(|| found.join("; "))
}

fn is_bad(condition: &Condition) -> bool {
    if NEGATIVE.contains(&condition.condition_type) {
        condition.status == "True"
    } else {
        // Pending is on its way to True.
        condition.status == "False" && condition.reason != "Pending"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::{GatewayStatus, ListenerStatus};

    fn condition(condition_type: &'static str, status: &'static str, reason: &'static str) -> Condition {
        Condition { condition_type, status, reason, message: "why".into(), observed_generation: None }
    }

    #[test]
    fn only_what_says_no_is_told() {
        for (conditions, expected) in [
            (vec![condition("Accepted", "True", "Accepted"), condition("Conflicted", "False", "NoConflicts")], None),
            (vec![condition("Programmed", "False", "Pending")], None),
            (vec![condition("Accepted", "False", "PortUnavailable")], Some("listener http: Accepted=False (PortUnavailable): why")),
            (vec![condition("Conflicted", "True", "HostnameConflict")], Some("listener http: Conflicted=True (HostnameConflict): why")),
        ] {
            let listener = ListenerStatus { name: "http".into(), conditions, ..ListenerStatus::default() };
            let status = Status::Gateway(GatewayStatus { listeners: vec![listener], ..GatewayStatus::default() });
            assert_eq!(problems(&status).as_deref(), expected);
        }
    }
}
