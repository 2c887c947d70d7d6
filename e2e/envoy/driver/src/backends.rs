//! The backends: every address of 127.0.0.0/8 and ::1 on a few ports, each answering with the address it was asked on.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves `count` free ports, prints them on one line, with `ipv6` behind them if ::1 is served too, and ends when
/// standard input is closed.
pub async fn serve(count: usize) -> io::Result<()> {
    let mut words = Vec::new();
    let mut ipv6 = true;
    for _ in 0..count {
        // One socket on all addresses: a backend costs nothing until it is asked.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let port = listener.local_addr()?.port();
        words.push(port.to_string());
        tokio::task::spawn_local(accept(listener));
        match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(listener) => drop(tokio::task::spawn_local(accept(listener))),
            Err(_) => ipv6 = false,
        }
    }
    if ipv6 {
        words.push("ipv6".to_owned());
    }
    println!("{}", words.join(" "));
    // The parent's end closes this too, however it ends.
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    Ok(())
}

async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(async move {
                    // A proxy that goes away is no failure of a backend.
                    let _ = answer(stream).await;
                });
            }
            Err(error) => {
                eprintln!("backends: accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let response = format!("HTTP/1.1 200 OK\r\nx-backend: {}\r\ncontent-length: 0\r\n\r\n", stream.local_addr()?);
    let mut buffer = Vec::with_capacity(2048);
    loop {
        while let Some(end) = find(&buffer, b"\r\n\r\n") {
            // Requests have no body.
            buffer.drain(..end + 4);
            stream.write_all(response.as_bytes()).await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Where `needle` first is in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}
