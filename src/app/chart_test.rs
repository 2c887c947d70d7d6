//! `clingfish chart-test`: backends that say who they are, and the requests that `helm test` sends to them through the gateway.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1::handshake, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, net::TcpStream, time::Instant};

use crate::cli::{ChartTestArgs, ChartTestSide, StickyArgs};

use super::{error::CommandError, serving::control_runtime, shutdown};

/// Time between two tries of the first request.
const PAUSE: Duration = Duration::from_millis(500);

/// Most time for one answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Runs one side of the test.
///
/// # Errors
/// The address cannot be listened on, or the requests did not all come to one backend.
pub(super) fn run(arguments: ChartTestArgs) -> Result<(), CommandError> {
    control_runtime()?.block_on(async {
        match arguments.side {
            ChartTestSide::Backend { listen, pod_name } => serve(bound(listen).await?, pod_name.into()).await,
            ChartTestSide::Sticky(arguments) => {
                let pod = sticky(&arguments).await.map_err(CommandError::Message)?;
                tracing::info!("{} requests with one cookie were all answered by {pod}", arguments.requests);
                Ok(())
            }
        }
    })
}

/// Listens on every address; a machine may have no IPv6.
async fn bound(listen: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(_) if listen.ip().is_unspecified() => TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await,
        bound => bound,
    }
}

/// Answers until the process is told to end.
async fn serve(listener: TcpListener, name: Bytes) -> Result<(), CommandError> {
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await?;
            let name = name.clone();
            let answer = service_fn(move |_: Request<Incoming>| {
                let name = name.clone();
                async move { Ok::<_, Infallible>(Response::new(Full::new(name))) }
            });
            tokio::spawn(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer));
        }
    };
    let ended: io::Result<()> = tokio::select! {
        result = accept => result,
        signal = shutdown::signal() => signal.map(|_| ()),
    };
    Ok(ended?)
}

/// An answer of the gateway.
struct Answer {
    status: StatusCode,
    cookie: Option<String>,
    body: Bytes,
}

/// The backend that answered all requests.
///
/// # Errors
/// What went wrong, with what to look at.
async fn sticky(arguments: &StickyArgs) -> Result<String, String> {
    let until = Instant::now() + arguments.deadline;
    let first = loop {
        let problem = match ask(arguments, None).await {
            Ok(answer) if answer.status == StatusCode::OK => break answer,
            Ok(answer) => format!("the answer is {}", answer.status),
            Err(error) => error,
        };
        if Instant::now() >= until {
            return Err(format!("{} was not served after {} s: {problem}", arguments.gateway, arguments.deadline.as_secs()));
        }
        tokio::time::sleep(PAUSE).await;
    };
    let cookie = first.cookie.ok_or("the first answer set no cookie; does the route have its RouteOption?")?;
    for number in 2..=arguments.requests {
        let answer = ask(arguments, Some(&cookie)).await?;
        if answer.status != StatusCode::OK || answer.body != first.body {
            return Err(format!(
                "request {number} was answered {} by {}, the first one by {}",
                answer.status,
                String::from_utf8_lossy(&answer.body),
                String::from_utf8_lossy(&first.body)
            ));
        }
    }
    Ok(String::from_utf8_lossy(&first.body).into_owned())
}

/// One request on a connection of its own.
async fn ask(arguments: &StickyArgs, cookie: Option<&str>) -> Result<Answer, String> {
    let answer = async {
        let stream = TcpStream::connect(&*arguments.gateway).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut request = Request::builder().uri("/").header(header::HOST, &arguments.host);
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (status, cookie) = (response.status(), response.headers().get(header::SET_COOKIE).and_then(pair));
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status, cookie, body })
    };
    tokio::time::timeout(ANSWER_DEADLINE, answer).await.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_DEADLINE.as_secs())))
}

/// Name and value of a `set-cookie`, without its attributes.
fn pair(value: &HeaderValue) -> Option<String> {
    Some(value.to_str().ok()?.split(';').next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Where something listens that answers the first requests 404, sets a cookie where there is none, and names these pods in turn.
    async fn gateway(not_found: u32, pods: &'static [&'static str], sets_cookie: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let count = std::sync::Arc::new(AtomicU32::new(0));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let count = std::sync::Arc::clone(&count);
                let answer = service_fn(move |request: Request<Incoming>| {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    async move {
                        let mut response = Response::new(Full::new(Bytes::from(pods[number as usize % pods.len()])));
                        if number < not_found {
                            *response.status_mut() = StatusCode::NOT_FOUND;
                        }
                        if sets_cookie && !request.headers().contains_key(header::COOKIE) {
                            response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_static("c=\"1\"; Max-Age=60; Path=/"));
                        }
                        Ok::<_, Infallible>(response)
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        address
    }

    fn arguments(gateway: String) -> StickyArgs {
        StickyArgs { gateway, host: "a.example".into(), requests: 5, deadline: Duration::from_secs(10) }
    }

    #[tokio::test]
    async fn requests_that_stay_on_one_backend_pass_once_the_route_is_served() {
        let arguments = arguments(gateway(2, &["one"], true).await);
        assert_eq!(sticky(&arguments).await.as_deref(), Ok("one"));
    }

    #[tokio::test]
    async fn requests_that_move_and_answers_without_a_cookie_fail() {
        let moved = sticky(&arguments(gateway(0, &["one", "two"], true).await)).await.unwrap_err();
        assert!(moved.starts_with("request 2 was answered 200 OK by two"), "{moved}");
        let bare = sticky(&arguments(gateway(0, &["one"], false).await)).await.unwrap_err();
        assert!(bare.contains("no cookie"), "{bare}");
    }

    #[tokio::test]
    async fn a_route_that_is_never_served_fails_in_time() {
        let arguments = StickyArgs { deadline: Duration::ZERO, ..arguments(gateway(u32::MAX, &["one"], true).await) };
        assert!(sticky(&arguments).await.unwrap_err().contains("404"));
    }
}
