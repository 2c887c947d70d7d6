//! The comparison: each request goes through both proxies; the same backend must answer.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::answer::Answer;
use crate::connection::Connection;
use crate::plan::{Lane, Plan, Request};

/// So many differences of a case are shown in full; all are counted.
const SHOWN: usize = 2;

#[derive(Default)]
struct Tally {
    sent: usize,
    /// Choices of a backend that were compared.
    keys: usize,
    differences: usize,
    by_case: Vec<usize>,
    names: Vec<String>,
    total: usize,
}

impl Tally {
    fn differ(&mut self, request: &Request, what: &str) {
        self.differences += 1;
        self.by_case[request.case] += 1;
        if self.by_case[request.case] <= SHOWN {
            println!("difference in case {}: {what}\n    {}", request.case, request.bytes.escape_ascii());
        }
    }
}

/// The two proxies' connections of one lane, by listener.
struct Pair {
    subject: Vec<Connection>,
    reference: Vec<Connection>,
}

/// Replays the plan; returns the number of differences.
pub async fn run(plan: Plan) -> usize {
    let total = plan.lanes.iter().map(|lane| lane.requests.len()).sum();
    let tally = Tally { by_case: vec![0; plan.cases.len()], names: plan.cases, total, ..Tally::default() };
    let tally = Rc::new(RefCell::new(tally));
    let mut tasks = Vec::new();
    for lane in plan.lanes {
        let open = |targets: &[SocketAddr]| targets.iter().map(|target| Connection::new(lane.source, *target, lane.protocol)).collect();
        let pair = Pair { subject: open(&plan.subject), reference: open(&plan.reference) };
        tasks.push(tokio::task::spawn_local(drive(lane, pair, Rc::clone(&tally))));
    }
    for task in tasks {
        if let Err(error) = task.await {
            println!("a lane ended early: {error}");
            tally.borrow_mut().differences += 1;
        }
    }
    report(&tally.borrow())
}

fn report(tally: &Tally) -> usize {
    for (name, count) in tally.names.iter().zip(&tally.by_case).filter(|(_, count)| **count > 0) {
        println!("{count} differences in {name}");
    }
    println!("{} cases, {} keys, {} differences", tally.names.len(), tally.keys, tally.differences);
    tally.differences
}

async fn drive(lane: Lane, mut pair: Pair, tally: Rc<RefCell<Tally>>) {
    for request in &lane.requests {
        let outcome = check(request, &mut pair).await;
        let mut tally = tally.borrow_mut();
        match outcome {
            Ok(keys) => tally.keys += keys,
            Err(what) => tally.differ(request, &what),
        }
        tally.sent += 1;
        if tally.sent.is_multiple_of(20_000) {
            eprintln!("{} of {} requests, {} differences", tally.sent, tally.total, tally.differences);
        }
    }
}

/// One request through both; the number of choices compared, or what differs.
async fn check(request: &Request, pair: &mut Pair) -> Result<usize, String> {
    let subject = &mut pair.subject[request.listener];
    let reference = &mut pair.reference[request.listener];
    let (ours, theirs) = both(subject, reference, &request.bytes).await?;
    same("status", &ours.status.to_string(), &theirs.status.to_string())?;
    same("set-cookie", &shapes(&ours), &shapes(&theirs))?;
    generated("subject", &ours, subject.target())?;
    generated("reference", &theirs, reference.target())?;
    if ours.set_cookies.is_empty() {
        if request.keyless || ours.status != 200 {
            return Ok(0);
        }
        return same("backend", &ours.backend, &theirs.backend).map(|()| 1);
    }
    // Each proxy's cookie must lead to the backend that answered when it was made, through both proxies.
    for (maker, first, quoted) in [("subject", &ours, true), ("reference", &theirs, false)] {
        let again = with_cookies(&request.bytes, &first.set_cookies, quoted);
        let (ours, theirs) = both(subject, reference, &again).await?;
        let what = format!("backend for the {maker}'s cookies {:?}", first.set_cookies);
        same(&what, &ours.backend, &theirs.backend)?;
        same(&format!("{what} (against its first answer)"), &theirs.backend, &first.backend)?;
        same("set-cookie for a valid cookie", &shapes(&ours), &shapes(&theirs))?;
    }
    Ok(2)
}

async fn both(subject: &mut Connection, reference: &mut Connection, bytes: &[u8]) -> Result<(Answer, Answer), String> {
    let (ours, theirs) = tokio::join!(subject.exchange(bytes), reference.exchange(bytes));
    Ok((named("subject", ours)?, named("reference", theirs)?))
}

fn named(who: &str, answer: io::Result<Answer>) -> Result<Answer, String> {
    answer.map_err(|error| format!("{who}: {error}"))
}

fn same(what: &str, ours: &str, theirs: &str) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}: subject `{ours}`, reference `{theirs}`")) }
}

/// `name="value"; rest`: the parts around the value, and the value.
fn split(cookie: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = cookie.split_once("=\"")?;
    let (value, rest) = rest.split_once('"')?;
    Some((name, value, rest))
}

/// The Set-Cookie lines without their values, which differ by connection.
fn shapes(answer: &Answer) -> String {
    let shape = |cookie: &String| match split(cookie) {
        Some((name, value, rest)) => format!("{name}=\"{}\"{rest}", "x".repeat(value.len())),
        None => cookie.clone(),
    };
    answer.set_cookies.iter().map(shape).collect::<Vec<_>>().join(" | ")
}

/// A generated value is the hash of the connection's two addresses.
fn generated(who: &str, answer: &Answer, target: SocketAddr) -> Result<(), String> {
    let wanted = format!("{:016x}", xxhash_rust::xxh64::xxh64(format!("{}{target}", answer.client).as_bytes(), 0));
    for cookie in &answer.set_cookies {
        let value = split(cookie).map_or("", |(_, value, _)| value);
        if value != wanted {
            return Err(format!("{who} made {cookie}, the value for {} and {target} is {wanted}", answer.client));
        }
    }
    Ok(())
}

/// The request with the cookies first, where they win over what it already has.
fn with_cookies(request: &[u8], set_cookies: &[String], quoted: bool) -> Vec<u8> {
    let pairs = set_cookies.iter().filter_map(|cookie| split(cookie)).map(|(name, value, _)| match quoted {
        true => format!("{name}=\"{value}\""),
        false => format!("{name}={value}"),
    });
    let line = format!("Cookie: {}\r\n", pairs.collect::<Vec<_>>().join("; "));
    let end = crate::backends::find(request, b"\r\n").map_or(0, |end| end + 2);
    [&request[..end], line.as_bytes(), &request[end..]].concat()
}
