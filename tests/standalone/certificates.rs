//! Certificates that expire: who runs the gateway learns of it without asking a client.

use crate::support::Gateway;

const CERTIFICATE: &str = include_str!("../certificates/expired.crt");
const KEY: &str = include_str!("../certificates/expired.key");

/// A Secret whose certificate expired with the year 2020.
fn manifests() -> String {
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let (certificate, key) = (indented(CERTIFICATE), indented(KEY));
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: tls, namespace: infra}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{certificate}  \
         tls.key: |\n{key}---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gw, namespace: infra}}\nspec:\n  \
         gatewayClassName: clingfish\n  listeners:\n  - {{name: https, port: {{port}}, protocol: HTTPS, tls: {{certificateRefs: [{{name: tls}}]}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_a_notice_and_a_negative_number() {
    let gateway = Gateway::start(&[("tls.yaml", manifests())]).await;
    let config = gateway.config().await;
    let notices = config["notices"].to_string();
    assert!(notices.contains("Gateway infra/gw: listener https: the certificate of Secret infra/tls"), "{notices}");
    assert!(notices.contains("expired at 2021-01-01T00:00:00Z: it is still served"), "{notices}");
    let metrics = gateway.admin().await.get("/metrics", &[]).await.body;
    let series = "clingfish_tls_certificate_expires_in_seconds{gateway=\"infra/gw\",listener=\"https\"} ";
    let left: i64 = metrics.lines().find_map(|line| line.strip_prefix(series)).expect("the series").parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let expected = 1_609_459_200 - i64::try_from(now).unwrap();
    assert!((expected - 60..=expected + 60).contains(&left), "{left}, expected {expected}");
}
