//! The install's own pods, and who of them leads.

use serde_json::Value;

use super::{
    gathered::{Asked, Gathered, Unasked},
    install::installs,
    objects::{condition, count, full_name, list, number, said, text, time},
    report::Outcome,
};

/// A holder of the Lease renews it every few seconds; without that for so long nobody leads.
const LONGEST_RENEWAL: i64 = 30;

/// A container that ended so long ago is history.
const RECENTLY: i64 = 3_600;

/// Why a container waits that only needs time.
const ON_ITS_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

pub(super) fn check_pods(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let install = &gathered.install;
    let deployment = gathered.find(Asked::Deployments, &install.namespace, &install.deployment)?;
    let name = format!("Deployment {}/{}", install.namespace, install.deployment);
    if let Some(deployment) = deployment {
        if deployment.pointer("/spec/replicas").and_then(Value::as_i64) == Some(0) {
            outcome.finding(
                &*name,
                "it is scaled to no pod",
                format!("kubectl scale -n {} deployment/{} --replicas=2", install.namespace, install.deployment),
            );
        }
        let conditions = list(deployment, "/status/conditions");
        for (kind, to_do) in [
            ("ReplicaFailure", "the message says who refuses its pods: a quota, a policy or a webhook"),
            ("Progressing", "see what is said of its pods, or go back with helm rollback"),
        ] {
            let bad = if kind == "ReplicaFailure" { "True" } else { "False" };
            if let Some(condition) = condition(conditions, kind, bad) {
                outcome.finding(&*name, said(condition), to_do);
            }
        }
        let (wanted, updated) = (number(deployment, "/spec/replicas"), number(deployment, "/status/updatedReplicas"));
        if number(deployment, "/metadata/generation") > number(deployment, "/status/observedGeneration") {
            outcome.finding(&*name, "no controller has seen its newest version", "see whether the cluster's controller manager runs");
        }
        outcome.looked_at = format!("{updated} of {} up to date", count(usize::try_from(wanted).unwrap_or_default(), "pod"));
    }
    let pods: Vec<&Value> = gathered.list(Asked::Pods)?.iter().filter(|pod| install.has_pod(pod)).collect();
    if pods.is_empty() {
        outcome.finding(
            &*name,
            "it has no pod: nothing is served",
            format!("kubectl describe -n {} deployment/{}", install.namespace, install.deployment),
        );
    }
    for pod in &pods {
        check_pod(pod, gathered.now, outcome);
    }
    let ready = pods.iter().filter(|pod| condition(list(pod, "/status/conditions"), "Ready", "True").is_some()).count();
    outcome.looked_at = format!("{ready} of {} ready, {}", count(pods.len(), "pod"), outcome.looked_at);
    Ok(())
}

fn check_pod(pod: &Value, now: i64, outcome: &mut Outcome) {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return;
    }
    let name = format!("pod {}", full_name(pod));
    let describe = format!("kubectl describe pod -n {} {}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    let logs = format!("kubectl logs -n {} {} --previous", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    if let Some(condition) = condition(list(pod, "/status/conditions"), "PodScheduled", "False") {
        outcome.finding(
            name,
            format!("no node takes it: {}", said(condition)),
            "make room, or change resources, nodeSelector, affinity or tolerations",
        );
        return;
    }
    let before = outcome.findings.len();
    for status in list(pod, "/status/containerStatuses") {
        let container = text(status, "/name");
        let waits = text(status, "/state/waiting/reason");
        if !waits.is_empty() && !ON_ITS_WAY.contains(&waits) {
            let message = text(status, "/state/waiting/message");
            let what = format!("container {container} does not start: {waits}{}{message}", if message.is_empty() { "" } else { ": " });
            let to_do = if waits == "CrashLoopBackOff" { logs.clone() } else { describe.clone() };
            outcome.finding(&*name, what, to_do);
        }
        if let Some(ended) = status.pointer("/lastState/terminated") {
            let reason = text(ended, "/reason");
            let is_recent = time(ended, "/finishedAt").is_some_and(|at| now - at < RECENTLY);
            if reason == "OOMKilled" {
                let to_do = "raise resources.limits.memory, or lower ceilings.maxConnections (docs/limits.md)";
                outcome.finding(&*name, format!("container {container} was killed because its memory ran out"), to_do);
            } else if is_recent && number(ended, "/exitCode") != 0 {
                outcome.finding(
                    &*name,
                    format!("container {container} ended with exit code {} within the last hour", number(ended, "/exitCode")),
                    logs.clone(),
                );
            }
        }
    }
    let ready = condition(list(pod, "/status/conditions"), "Ready", "True").is_some();
    if !ready && outcome.findings.len() == before {
        let why = condition(list(pod, "/status/conditions"), "Ready", "False").map(said).unwrap_or_default();
        outcome.finding(name, format!("it is not ready: {why}"), describe);
    }
}

pub(super) fn check_leader(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let install = &gathered.install;
    check_rivals(gathered, outcome)?;
    let name = format!("Lease {}/{}", install.namespace, install.instance);
    let Some(lease) = gathered.find(Asked::Leases, &install.namespace, &install.instance)? else {
        outcome.finding(
            name,
            "it is missing: nobody writes statuses and Services",
            "see the checks pods and rights; a pod that runs makes it within seconds",
        );
        return Ok(());
    };
    let holder = text(lease, "/spec/holderIdentity");
    let age = time(lease, "/spec/renewTime").map_or(i64::MAX, |renewed| gathered.now - renewed);
    let pods = gathered.list(Asked::Pods)?;
    let known = pods.iter().any(|pod| install.has_pod(pod) && text(pod, "/metadata/name") == holder);
    if holder.is_empty() || age > LONGEST_RENEWAL {
        let what = match (holder, age) {
            ("", _) => "nobody holds it: statuses and Services are not written".to_owned(),
            (_, i64::MAX) => format!("{holder} holds it and has never renewed it"),
            _ => format!("{holder} has not renewed it for {age} s: statuses and Services are not written"),
        };
        outcome.finding(name, what, "see the checks pods and rights, and the logs of the pods for the Lease");
    } else if !known {
        let to_do = "somebody else uses its name: give each install a name of its own";
        outcome.finding(name, format!("{holder} holds it, which is no pod of this install"), to_do);
    }
    outcome.looked_at = format!("{holder} leads");
    Ok(())
}

/// Two installs that answer for the same classes write over each other.
fn check_rivals(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let install = &gathered.install;
    for rival in installs(gathered.list(Asked::Deployments)?) {
        let is_self = rival.namespace == install.namespace && rival.deployment == install.deployment;
        if !is_self && rival.controller_name == install.controller_name {
            let what = format!("it serves the classes of controllerName {} too: both write the same statuses", rival.controller_name);
            let to_do = "give one of them another controllerName, gatewayClass.name and, with gloo.enabled, take the other one away";
            outcome.finding(format!("Deployment {}/{}", rival.namespace, rival.deployment), what, to_do);
        }
    }
    Ok(())
}
