//! A server that takes OTLP log records over HTTP and counts them, and what a process has spent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What has arrived.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// Log records.
    pub(crate) records: AtomicU64,
    /// Bytes of bodies as they came.
    pub(crate) bytes: AtomicU64,
    /// Requests.
    pub(crate) requests: AtomicU64,
}

/// Answers 200 to every request and counts what is in it; gives the base address.
pub(crate) fn start_sink() -> std::io::Result<(String, Arc<Arrived>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    let arrived = Arc::new(Arrived::default());
    let of_server = Arc::clone(&arrived);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let arrived = Arc::clone(&of_server);
            std::thread::spawn(move || answer(&connection, &arrived));
        }
    });
    Ok((address, arrived))
}

fn answer(mut connection: &TcpStream, arrived: &Arrived) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    let mut body = Vec::new();
    loop {
        let (mut length, mut encoding, mut path) = (0, String::new(), None);
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? <= 2 {
                break;
            }
            path.get_or_insert_with(|| line.split(' ').nth(1).unwrap_or_default().to_owned());
            if let Some((name, value)) = line.split_once(':') {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().ok()?,
                    "content-encoding" => value.trim().clone_into(&mut encoding),
                    _ => {}
                }
            }
        }
        let path = path?;
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
        arrived.requests.fetch_add(1, Ordering::Relaxed);
        if path == "/v1/logs" {
            arrived.bytes.fetch_add(length as u64, Ordering::Relaxed);
            let plain = unpacked(&body, &encoding)?;
            arrived.records.fetch_add(log_records(&plain)?, Ordering::Relaxed);
        }
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

fn unpacked(body: &[u8], encoding: &str) -> Option<Vec<u8>> {
    match encoding {
        "zstd" => zstd::stream::decode_all(body).ok(),
        "gzip" => {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(body).read_to_end(&mut plain).ok()?;
            Some(plain)
        }
        _ => Some(body.to_vec()),
    }
}

/// Log records in an `ExportLogsServiceRequest`: `resource_logs` = 1, `scope_logs` = 2, `log_records` = 2.
fn log_records(request: &[u8]) -> Option<u64> {
    let mut records = 0;
    each(request, 1, |resource| {
        each(resource, 2, |scope| {
            each(scope, 2, |_| {
                records += 1;
                Some(())
            })
        })
    })?;
    Some(records)
}

/// Shows each field of this number that holds bytes; None when the message is not well formed.
fn each(mut message: &[u8], number: u64, mut show: impl FnMut(&[u8]) -> Option<()>) -> Option<()> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let length = match tag & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (field, rest) = message.split_at_checked(length)?;
        message = rest;
        if tag >> 3 == number {
            show(field)?;
        }
    }
    Some(())
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
