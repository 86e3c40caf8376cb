//! A TCP relay whose connections can be cut, for what happens when a guest goes away.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{net::Ipv4Addr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Mutex, Notify},
    task::JoinSet,
};

pub(crate) struct Relay {
    port: u16,
    connections: Arc<Mutex<JoinSet<()>>>,
    freezing: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let freezing = Arc::new(Notify::new());
        let (all, freeze) = (Arc::clone(&connections), Arc::clone(&freezing));
        let accepting = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let freeze = Arc::clone(&freeze);
                all.lock().await.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                        tokio::select! {
                            _ = copy_bidirectional(&mut client, &mut server) => {}
                            () = freeze.notified() => std::future::pending().await,
                        }
                    }
                });
            }
        });
        Self {
            port: own_port,
            connections,
            freezing,
            accepting,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts all connections; new ones are relayed.
    pub(crate) async fn cut(&self) {
        self.connections.lock().await.shutdown().await;
    }

    /// Lets nothing more through on the connections there are, which stay open; new ones are relayed.
    pub(crate) fn freeze(&self) {
        self.freezing.notify_waiters();
    }

    /// How many connections were made since the last cut.
    pub(crate) async fn connections(&self) -> usize {
        self.connections.lock().await.len()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
