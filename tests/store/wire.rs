//! A connection to a server that can die without a word.

use std::sync::Arc;

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
        let (host, database) = url
            .strip_prefix("postgres://postgres@")
            .unwrap()
            .split_once('/')
            .unwrap();
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
