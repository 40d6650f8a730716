//! HTTP/2 by hand, as clients speak it that mean no good (RFC 9113).

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufWriter},
    net::TcpStream,
    time::timeout,
};

use crate::harness::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_OF_STREAM: u8 = 1;
const END_OF_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A connection on which nothing is taken of any answer's body, but all else is done as it should be.
pub struct ZeroWindow {
    stream: BufWriter<TcpStream>,
    authority: String,
}

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl ZeroWindow {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut connection = Self {
            stream: BufWriter::new(stream),
            authority: address.to_string(),
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        connection.stream.write_all(preface).await.unwrap();
        let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        setting.extend([0; 4]);
        connection.write(SETTINGS, 0, 0, &setting).await;
        connection
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.stream.write_all(&head).await.unwrap();
        self.stream.write_all(payload).await.unwrap();
    }

    /// Asks for a path, on a stream with this odd number.
    pub async fn get(&mut self, stream: u32, path: &str) {
        // `:method GET` and `:scheme http` of the static table, and two literals (RFC 7541).
        let mut block = vec![0x82, 0x86];
        for (name, value) in [(0x04, path), (0x01, self.authority.as_str())] {
            block.extend([name, u8::try_from(value.len()).unwrap()]);
            block.extend(value.as_bytes());
        }
        let flags = END_OF_STREAM | END_OF_HEADERS;
        self.write(HEADERS, flags, stream, &block).await;
    }

    /// The next frame that is neither settings nor a ping, which are answered; none at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            self.stream.flush().await.ok()?;
            let reading = timeout(2 * PATIENCE, self.read());
            let (flags, frame) = reading.await.expect("a frame comes, or the end")?;
            if [SETTINGS, PING].contains(&frame.kind) {
                if flags & ACK == 0 {
                    let payload = if frame.kind == PING {
                        &*frame.payload
                    } else {
                        &[]
                    };
                    self.write(frame.kind, ACK, 0, payload).await;
                }
                continue;
            }
            return Some(frame);
        }
    }

    async fn read(&mut self) -> Option<(u8, Frame)> {
        let stream = self.stream.get_mut();
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let [high, middle, low, kind, flags, number @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        stream.read_exact(&mut payload).await.ok()?;
        let frame = Frame {
            kind,
            stream: u32::from_be_bytes(number),
            payload,
        };
        Some((flags, frame))
    }
}
