//! One connection of HTTP/1.1 that is kept alive.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::Outcome;

pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What a server said.
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

impl Answer<'_> {
    pub fn contains(&self, text: &[u8]) -> bool {
        self.body.windows(text.len()).any(|window| window == text)
    }
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Outcome<Self> {
        Self::of(TcpStream::connect(address).await?)
    }

    /// Opens one that comes from `source`, an address of this machine.
    pub async fn open_from(source: Ipv4Addr, address: SocketAddr) -> Outcome<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        Self::of(socket.connect(address).await?)
    }

    fn of(stream: TcpStream) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(4096),
        })
    }

    /// Sends a request and waits for its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Outcome<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err("the server closed a connection".into());
            }
            if let Some(head) = Head::parse(&self.received)? {
                let end = head.length + head.content_length;
                if self.received.len() >= end {
                    let body = &self.received[head.length..end];
                    let status = head.status;
                    return Ok(Answer { status, body });
                }
            }
        }
    }
}

struct Head {
    status: u16,
    length: usize,
    content_length: usize,
}

impl Head {
    /// None when it has not arrived whole.
    fn parse(received: &[u8]) -> Outcome<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(received)? else {
            return Ok(None);
        };
        let content_length = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .ok_or("an answer has no content-length")?;
        Ok(Some(Self {
            status: response.code.unwrap_or(0),
            length,
            content_length: std::str::from_utf8(content_length.value)?.parse()?,
        }))
    }
}
