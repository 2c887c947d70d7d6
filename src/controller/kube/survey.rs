//! Gathers what `clingfish doctor` decides about. It asks, and decides nothing.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use http::{Request, header};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::base::Message;
use crate::doctor::{Asked, Gathered, Install, Listed, Place, PodAnswer, Right, RightAnswer, installs, is_unsettled, needed_rights};

use super::client::{CallError, ConnectError, chain, connect};

/// Most time for an answer, a page of a list for example.
const PATIENCE: Duration = Duration::from_secs(15);

/// Objects of a page.
const PAGE: usize = 500;

/// Most times that pods are asked until they agree, and the time in between.
const ROUNDS: usize = 4;
const BETWEEN_ROUNDS: Duration = Duration::from_secs(2);

/// Nothing can be gathered.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// No API server is known.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It does not answer, or refuses what everything else begins with.
    #[error("the API server cannot be asked for {what}: {why}")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// Its words.
        why: Message,
    },
    /// There is no install.
    #[error("no Deployment {place} runs Clingfish; choose another namespace with -n, or install it: README.md of the chart")]
    None {
        /// Where it was looked for.
        place: Message,
    },
    /// There are several.
    #[error("several Deployments run Clingfish: {names}; choose one namespace with -n")]
    Several {
        /// Their namespaces and names.
        names: Message,
    },
}

/// Asks about the install of a namespace, or about the only one.
///
/// # Errors
/// The API server cannot be asked, or there is not exactly one install. Whatever else cannot be asked is told in what is gathered.
pub async fn survey(namespace: Option<&str>) -> Result<Gathered, SurveyError> {
    let client = connect().await?;
    let (kubernetes, now) = version(&client).await?;
    let deployments = list(&client, Asked::Deployments, None).await;
    let deployments = match (deployments.refused.as_ref(), namespace) {
        (Some(_), Some(_)) => list(&client, Asked::Deployments, namespace).await,
        _ => deployments,
    };
    if let Some(why) = deployments.refused {
        return Err(SurveyError::Ask { what: "Deployments", why: why.into() });
    }
    let install = choose(&deployments.items, namespace)?;
    let mut gathered = Gathered { install, kubernetes, now, ..Gathered::default() };
    gathered.lists.insert(Asked::Deployments, deployments);
    for asked in Asked::ALL.into_iter().filter(|asked| *asked != Asked::Deployments) {
        let place = match asked.place() {
            Place::Everywhere => None,
            Place::Install => Some(gathered.install.namespace.as_str()),
        };
        let listed = list(&client, asked, place).await;
        gathered.lists.insert(asked, listed);
    }
    gathered.rights = rights(&client, &gathered).await;
    ask_pods(&client, &mut gathered).await;
    Ok(gathered)
}

fn choose(deployments: &[Value], namespace: Option<&str>) -> Result<Install, SurveyError> {
    let found = installs(deployments).into_iter();
    let mut found: Vec<Install> = found.filter(|install| namespace.is_none_or(|namespace| install.namespace == namespace)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            let names = found.iter().chain([&last]).map(|install| format!("{}/{}", install.namespace, install.deployment));
            Err(SurveyError::Several { names: names.collect::<Vec<_>>().join(", ").into() })
        }
        (None, _) => {
            let place = namespace.map_or_else(|| "of this cluster".to_owned(), |namespace| format!("of namespace {namespace}"));
            Err(SurveyError::None { place: place.into() })
        }
    }
}

/// An answer of the API server: its text, and its time in seconds since the epoch.
async fn get(client: &Client, path: &str) -> Result<(Vec<u8>, Option<i64>), CallError> {
    ask(client, Request::get(path).body(Body::empty())).await
}

async fn ask(client: &Client, request: http::Result<Request<Body>>) -> Result<(Vec<u8>, Option<i64>), CallError> {
    let request = request.map_err(kube::Error::HttpError)?;
    let answer = async {
        let response = client.send(request).await?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes().to_vec();
        if status.is_success() {
            return Ok((body, date.map(|date| date.as_second())));
        }
        let said: Option<kube::core::Status> = serde_json::from_slice(&body).ok();
        let words = || String::from_utf8_lossy(&body).trim().to_owned();
        let status =
            said.unwrap_or_else(|| kube::core::Status { message: words(), code: status.as_u16(), ..kube::core::Status::default() });
        Err(kube::Error::Api(Box::new(status)))
    };
    timeout(PATIENCE, answer).await.map_err(|_| CallError::Deadline)?.map_err(CallError::Api)
}

async fn version(client: &Client) -> Result<(Option<String>, i64), SurveyError> {
    let answer = get(client, "/version").await.map_err(|error| SurveyError::Ask { what: "its version", why: chain(&error) })?;
    let version: Value = serde_json::from_slice(&answer.0).unwrap_or_default();
    let now = answer.1.unwrap_or_else(|| jiff::Timestamp::now().as_second());
    Ok((version.get("gitVersion").and_then(Value::as_str).map(str::to_owned), now))
}

/// A list of objects, page by page.
async fn list(client: &Client, asked: Asked, namespace: Option<&str>) -> Listed {
    let mut listed = Listed::default();
    let mut more = String::new();
    loop {
        let (group, version) = asked.group_version();
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let place = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
        let path = format!("{root}{place}/{}?limit={PAGE}{more}", asked.plural());
        let page = match get(client, &path).await {
            Ok((page, _)) => page,
            Err(error) if error.code() == Some(404) => return Listed { is_unknown: true, ..Listed::default() },
            Err(error) => return Listed { refused: Some(chain(&error).to_string()), ..Listed::default() },
        };
        let mut page: Value = serde_json::from_slice(&page).unwrap_or_default();
        if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
            listed.items.extend(items);
        }
        match page.pointer("/metadata/continue").and_then(Value::as_str) {
            // A token is of the letters of base64, some of which mean something in a query.
            Some(token) if !token.is_empty() => {
                more = format!("&continue={}", token.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"));
            }
            Some(_) | None => return listed,
        }
    }
}

/// What the service account of the pods may do, asked right by right.
async fn rights(client: &Client, gathered: &Gathered) -> Vec<RightAnswer> {
    let crds = gathered.lists.get(&Asked::CustomResourceDefinitions).map(|crds| crds.items.as_slice()).unwrap_or_default();
    let mut answers = Vec::new();
    for right in needed_rights(&gathered.install, crds) {
        let answer = may(client, &gathered.install, right).await;
        let refused = answer.refused.is_some();
        answers.push(answer);
        if refused {
            // The others would be refused too.
            break;
        }
    }
    answers
}

async fn may(client: &Client, install: &Install, right: Right) -> RightAnswer {
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
    let Install { namespace, service_account, .. } = install;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{namespace}:{service_account}"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "resourceAttributes": {
                "verb": right.verb, "group": right.group, "resource": resource, "subresource": subresource, "namespace": right.namespace,
                "name": right.name,
            },
        },
    });
    let request = Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(review.to_string().into_bytes()));
    match ask(client, request).await {
        Ok((answer, _)) => {
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            RightAnswer { right, allowed: answer.pointer("/status/allowed") == Some(&Value::Bool(true)), refused: None }
        }
        Err(error) => RightAnswer { right, allowed: false, refused: Some(chain(&error).to_string()) },
    }
}

/// Asks every pod that runs for its metrics, again while they do not agree: a change reaches them one after the other.
async fn ask_pods(client: &Client, gathered: &mut Gathered) {
    let text = |pod: &Value, pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let pods = gathered.lists.get(&Asked::Pods).map(|pods| pods.items.as_slice()).unwrap_or_default().iter();
    let runs = |pod: &&Value| {
        gathered.install.has_pod(pod) && text(pod, "/status/phase") == "Running" && pod.pointer("/metadata/deletionTimestamp").is_none()
    };
    let names: Vec<String> = pods.filter(runs).map(|pod| text(pod, "/metadata/name")).collect();
    let mut answers: BTreeMap<String, PodAnswer> = names.iter().map(|name| (name.clone(), PodAnswer::default())).collect();
    for round in 0..ROUNDS {
        if round > 0 {
            sleep(BETWEEN_ROUNDS).await;
        }
        let Install { namespace, metrics_port, .. } = &gathered.install;
        let asked = names.iter().map(|name| async move {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{metrics_port}/proxy/metrics");
            (name, get(client, &path).await)
        });
        for (name, said) in join_all(asked).await {
            let Some(answer) = answers.get_mut(name) else { continue };
            match said {
                Ok((metrics, _)) => {
                    answer.metrics.push(String::from_utf8_lossy(&metrics).into_owned());
                    answer.refused = None;
                }
                Err(error) => answer.refused = Some(chain(&error).to_string()),
            }
        }
        gathered.pods.clone_from(&answers);
        if !is_unsettled(gathered) {
            return;
        }
    }
    ask_tables(client, gathered, &names).await;
}

/// Asks the pods for the digests of their hash tables, to name those that differ. Pods of earlier versions do not know the question.
async fn ask_tables(client: &Client, gathered: &mut Gathered, names: &[String]) {
    let Install { namespace, metrics_port, .. } = &gathered.install;
    let asked = names.iter().map(|name| async move {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{metrics_port}/proxy/digest?tables");
        (name, get(client, &path).await)
    });
    for (name, said) in join_all(asked).await {
        if let (Some(answer), Ok((tables, _))) = (gathered.pods.get_mut(name), said) {
            answer.tables = Some(String::from_utf8_lossy(&tables).into_owned());
        }
    }
}
