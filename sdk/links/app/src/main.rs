//! What survives the linker and an abort: call sites in a build with fat LTO, sections collected and symbols stripped, a
//! library opened at run time, and what had been recorded when a panic aborts the process.
//!
//! It checks itself: `cargo run --release` in this workspace ends with 0 or says what is missing.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("abort") {
        record_and_abort();
    }
    check_catalogue();
    check_plugin();
    check_abort();
    println!("call sites survive the linker, a plugin keeps to itself, an abort delivers what led to it");
}

/// Declared in the program, called by nobody.
#[allow(dead_code, reason = "the linker removes it, and must keep what it declares")]
fn never_called() {
    gemba::feature!("app.never_called");
}

fn check_catalogue() {
    links_library::called();
    gemba::step!(links_library::Order::Paid);
    let features: BTreeSet<&str> = gemba::__private::CALLSITES.iter().map(|site| site.name()).collect();
    // A function that is never called is not even compiled in the program itself, so `app.never_called` may be missing there;
    // in a library it is public, so it is compiled.
    for feature in ["library.called", "library.never_called", "app.before", "app.aborts"] {
        assert!(features.contains(feature), "{feature} is not among {features:?}");
    }
    let steps: Vec<_> = gemba::__private::FUNNELS.iter().copied().flatten().map(|step| step.step()).collect();
    assert_eq!(steps, ["cart", "paid"]);
}

fn check_plugin() {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let path = folder.join(libloading::library_filename("links_plugin"));
    let before = gemba::__private::CALLSITES.len();
    let records = {
        // SAFETY: our own library, which starts nothing when it is opened.
        let library = unsafe { libloading::Library::new(&path) }.unwrap();
        // SAFETY: the functions have these types, and are called while the library is open.
        let (record, callsites) = unsafe {
            let record: libloading::Symbol<'_, extern "C" fn() -> bool> = library.get(b"plugin_record").unwrap();
            let callsites: libloading::Symbol<'_, extern "C" fn() -> usize> = library.get(b"plugin_callsites").unwrap();
            (record(), callsites())
        };
        assert!(callsites >= 1, "the copy knows what its library declares");
        record
    };
    assert!(!records, "the copy has not been started");
    assert_eq!(gemba::__private::CALLSITES.len(), before, "the program's catalogue is as the linker made it");
}

fn record_and_abort() -> ! {
    let _gemba = gemba::Config::new("links").send_interval(std::time::Duration::from_secs(600)).start().unwrap();
    gemba::feature!("app.before");
    gemba::attempt!("app.aborts").run(|| -> () { panic!("on purpose") });
    unreachable!("the process has aborted");
}

/// What a child sends before it aborts has arrived when it is gone.
fn check_abort() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || serve(&stream.unwrap(), &sender));
        }
    });
    let status = Command::new(std::env::current_exe().unwrap())
        .arg("abort")
        .env("GEMBA_ENDPOINT", endpoint)
        .status()
        .unwrap();
    assert!(!status.success(), "it aborts");
    let sent: Vec<u8> = bodies.try_iter().flatten().collect();
    let holds = |text: &str| sent.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("app.before") && holds("gemba.feature.used"), "what was recorded before the panic");
    assert!(holds("gemba.feature.started"), "the attempt has begun");
    assert!(!holds("gemba.feature.ended"), "and never ended: it stays open");
}

fn serve(stream: &TcpStream, bodies: &Sender<Vec<u8>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap_or(0) > 0 {
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        bodies.send(zstd::stream::decode_all(&body[..]).unwrap()).unwrap();
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        line.clear();
    }
}
