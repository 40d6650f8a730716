//! A connection to a server that can die without a word, and a name that can lead to another one.

use std::sync::{Arc, Mutex};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Hands connections on to a server, until they fall silent: nothing comes through any more, and
/// nobody is told, as when a machine dies or a firewall forgets.
pub struct Wire {
    pub url: String,
    silence: watch::Sender<()>,
}

impl Wire {
    pub async fn to(url: &str) -> Self {
        let (host, database) = parts(url);
        let server: Arc<str> = host.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "postgres://postgres@{}/{database}",
            listener.local_addr().unwrap()
        );
        let silence = watch::Sender::new(());
        let silenced = silence.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let server = server.clone();
                let mut silenced = silenced.subscribe();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(&*server).await.unwrap();
                    tokio::select! {
                        _ended = copy_bidirectional(&mut client, &mut server) => {}
                        _silenced = silenced.changed() => {
                            drop(silenced);
                            std::future::pending::<()>().await;
                        }
                    }
                });
            }
        });
        Self { url, silence }
    }

    /// Those that are open fall silent, and are when this returns; new ones work.
    pub async fn fall_silent(&self) {
        self.silence.send_replace(());
        self.silence.closed().await;
    }
}

/// A name, as a virtual address is one, that leads each new connection to the next of its servers.
pub struct Signpost {
    pub url: String,
    servers: Arc<Mutex<Vec<String>>>,
}

impl Signpost {
    pub async fn to(urls: &[&str]) -> Self {
        let (_, database) = parts(urls[0]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "postgres://postgres@{}/{database}",
            listener.local_addr().unwrap()
        );
        let servers = Arc::new(Mutex::new(Vec::new()));
        let signpost = Self {
            url,
            servers: Arc::clone(&servers),
        };
        signpost.lead_to(urls);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let server = {
                    let mut servers = servers.lock().unwrap();
                    servers.rotate_left(1);
                    servers.last().unwrap().clone()
                };
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(&server).await {
                        let _ended = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        signpost
    }

    /// Leads new connections there; those that are open stay where they are.
    pub fn lead_to(&self, urls: &[&str]) {
        let servers = urls.iter().map(|url| parts(url).0.to_owned());
        *self.servers.lock().unwrap() = servers.collect();
    }
}

/// The address and the database of a URL.
fn parts(url: &str) -> (&str, &str) {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split_once('/').unwrap()
}
