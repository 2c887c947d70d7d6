//! A canary whose users are split by their key, over sockets.

use crate::support::{Answer, Gateway, Pod, gateway, slice};

const HOST: (&str, &str) = ("host", "shop.example");
const USERS: usize = 60;

fn services() -> String {
    let service = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{ports: [{{name: http, port: 80}}, {{name: tcp, port: 9000}}]}}\n"
        )
    };
    service("stable") + &service("canary")
}

fn route(weights: [u32; 2]) -> String {
    let [stable, canary] = weights;
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: shop, namespace: shop}}
spec:
  parentRefs: [{{name: http, namespace: gloo-system}}]
  hostnames: [shop.example]
  rules:
  - backendRefs: [{{name: stable, port: 80, weight: {stable}}}, {{name: canary, port: 80, weight: {canary}}}]
    filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-weight, value: '{canary}'}}]}}}}]
"
    )
}

const POLICY: &str = "
apiVersion: clingfish.dev/v1alpha1
kind: AffinityPolicy
metadata: {name: shop, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop}]
  keys: [{header: {name: x-user}}]
  split: Hash
  splitOverride: {header: {name: x-version}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_moves_to_a_canary_at_most_once_and_back_exactly() {
    let pods = Pod::several(2).await;
    let endpoints = slice(&pods[0], "shop", "stable") + &slice(&pods[1], "shop", "canary");
    let files = [
        ("gateway.yaml", gateway("clingfish")),
        ("services.yaml", services()),
        ("endpoints.yaml", endpoints),
        ("route.yaml", route([99, 1])),
        ("policy.yaml", POLICY.to_owned()),
    ];
    let gateway = Gateway::start(&files).await;
    let mut steps: Vec<Vec<bool>> = Vec::new();
    for canary in [1, 5, 25, 100, 1] {
        gateway.put("route.yaml", &route([100 - canary, canary]));
        let served = |answer: &Answer| answer.header("x-weight") == Some(&canary.to_string());
        gateway.until("/", &[HOST, ("x-user", "nobody")], served).await;
        // A connection may be at a worker that has not taken the change over yet.
        let mut on_canary = Vec::new();
        for user in 0..USERS {
            let answer = gateway.until("/", &[HOST, ("x-user", &format!("user-{user}"))], served).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            on_canary.push(answer.pod() == Some(pods[1].name().as_str()));
        }
        steps.push(on_canary);
    }
    for user in 0..USERS {
        let history: Vec<bool> = steps.iter().map(|step| step[user]).collect();
        assert!(history[..4].is_sorted() && history[3], "user {user}: {history:?}");
        assert_eq!(history[4], history[0], "user {user} is back where it was");
    }
    assert!(steps[2].iter().any(|on_canary| *on_canary) && !steps[2].iter().all(|on_canary| *on_canary), "25 % are some");
    let tester = gateway.client().await.get("/", &[HOST, ("x-user", "user-1"), ("x-version", "canary")]).await;
    assert_eq!(tester.pod(), Some(pods[1].name().as_str()));

    let question = r#"{"route":"shop/shop","split":[75,25],"keys":20000}"#;
    let answer = gateway.admin().await.send("POST", "/simulate", &[("content-type", "application/json")], question).await.unwrap();
    let report: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let share = |name: &str| report[name].as_f64().unwrap();
    assert!((0.23..0.25).contains(&share("moved")) && share("moved_needlessly") == 0.0, "{report:#}");
    for (question, error) in [
        (r#"{"route":"shop/shop","split":[1]}"#, "expected 2, one for each backendRef"),
        (r#"{"route":"shop/none","split":[1,1]}"#, "no rule 0 of a route shop/none is served"),
        (r#"{"route":"shop/shop","split":[0,0]}"#, "all weights are 0"),
    ] {
        let answer = gateway.admin().await.send("POST", "/simulate", &[("content-type", "application/json")], question).await.unwrap();
        assert!(answer.status == 400 && answer.body.contains(error), "{}", answer.body);
    }
}
