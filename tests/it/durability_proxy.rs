//! Something between the pipeline and the engine that makes inserts end in ways a network does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

/// Forwards bytes to the engine. When told to, it loses the answers of inserts (the request arrives, the connection
/// breaks), holds the next insert of events until it is let go, or lets nothing through.
#[derive(Default)]
pub(crate) struct Proxy {
    loses: AtomicBool,
    lost: AtomicU64,
    /// Holds the next insert of events.
    pub(crate) holds: AtomicBool,
    /// An insert is held.
    pub(crate) held: Notify,
    /// Lets it go.
    pub(crate) let_go: Notify,
    /// How often it was looked whose turn upkeep is.
    pub(crate) looks: AtomicU64,
    /// Lets nothing through.
    pub(crate) is_cut: watch::Sender<bool>,
}

impl Proxy {
    /// Starts one in front of the address; also gives its own address.
    pub(crate) async fn start(to: &str) -> (Arc<Self>, String) {
        let proxy = Arc::new(Self::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (accepting, to) = (Arc::clone(&proxy), to.to_owned());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (proxy, to) = (Arc::clone(&accepting), to.clone());
                tokio::spawn(async move { proxy.forward(client, &to).await });
            }
        });
        (proxy, address)
    }

    /// Ends when either side does, or when an answer is to be lost.
    async fn forward(&self, mut client: TcpStream, to: &str) -> Option<()> {
        let mut is_cut = self.is_cut.subscribe();
        let mut engine = TcpStream::connect(to).await.ok()?;
        let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
        let mut is_insert = false;
        loop {
            tokio::select! {
                () = async { drop(is_cut.wait_for(|is_cut| *is_cut).await) } => return None,
                read = client.read(&mut up) => {
                    let sent = &up[..read.ok().filter(|read| *read > 0)?];
                    let has = |text: &[u8]| sent.windows(text.len()).any(|bytes| bytes == text);
                    is_insert |= has(b"FORMAT+Native");
                    if has(b"startsWith(name, 'upkeep')") {
                        self.looks.fetch_add(1, Ordering::SeqCst);
                    }
                    if has(b"INTO+events+") && self.holds.swap(false, Ordering::SeqCst) {
                        self.held.notify_one();
                        self.let_go.notified().await;
                    }
                    engine.write_all(sent).await.ok()?;
                }
                read = engine.read(&mut down) => {
                    let answer = &down[..read.ok().filter(|read| *read > 0)?];
                    if is_insert && self.loses.load(Ordering::SeqCst) {
                        self.lost.fetch_add(1, Ordering::SeqCst);
                        return None;
                    }
                    client.write_all(answer).await.ok()?;
                }
            }
        }
    }

    /// Has the answers of the next inserts lost, `times` of them.
    pub(crate) async fn lose(&self, times: u64) {
        let before = self.lost.load(Ordering::SeqCst);
        self.loses.store(true, Ordering::SeqCst);
        let lost = async {
            while self.lost.load(Ordering::SeqCst) < before + times {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), lost).await.expect("inserts go on");
        self.loses.store(false, Ordering::SeqCst);
    }
}
