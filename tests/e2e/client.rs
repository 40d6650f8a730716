//! A small HTTP client that keeps its connection.

use std::{error::Error, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

/// The service never takes so long: an answer that does is a hang.
const HANG: Duration = Duration::from_secs(20);

pub type Failed = Box<dyn Error + Send + Sync>;

pub struct Client {
    address: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    pub took: Duration,
}

impl Answer {
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// A field of the body that is a string.
    pub fn field(&self, name: &str) -> String {
        let body = self.body();
        let field = body[name].as_str();
        field
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
            .to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The answer, when it is a 200.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{self:?}");
        self
    }

    pub fn is_valid(&self) -> bool {
        self.status == 200 && self.body()["valid"] == true
    }
}

impl Client {
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: None,
        }
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer, Failed> {
        self.send(Method::GET, path, &[], "").await
    }

    /// Sends JSON, and fails when no answer comes.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, Failed> {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, &all, &body.to_string()).await
    }

    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, Failed> {
        let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse()?;
        let host = HeaderValue::from_str(&self.address.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            request.headers_mut().append(name, value.parse()?);
        }
        let exchanged = timeout(HANG, self.exchange(request)).await;
        exchanged.map_err(|_| format!("no answer within {HANG:?}"))?
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Failed> {
        let began = Instant::now();
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let ends = parts.headers.get(header::CONNECTION);
        if ends.is_none_or(|value| value != "close") {
            self.connection = Some(connection);
        }
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec())?,
            took: began.elapsed(),
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failed> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(connection)
    }

    pub async fn try_generate(&mut self, secret: &str, user: u64) -> Result<Answer, Failed> {
        let body = json!({"wp_user_id": user, "proxy_secret": secret});
        self.post("/mirrory/generate-token", &[], &body).await
    }

    pub async fn generate(&mut self, secret: &str, user: u64) -> Answer {
        self.try_generate(secret, user).await.unwrap()
    }

    pub async fn generate_once(&mut self, secret: &str, user: u64, key: &str) -> Answer {
        let body = json!({"wp_user_id": user, "proxy_secret": secret});
        let headers = [("idempotency-key", key)];
        let answer = self.post("/mirrory/generate-token", &headers, &body).await;
        answer.unwrap()
    }

    /// A token for a user, which must be had.
    pub async fn token(&mut self, secret: &str) -> String {
        self.generate(secret, 12345).await.ok().field("token")
    }

    pub async fn try_validate(&mut self, token: &str, machine: &str) -> Result<Answer, Failed> {
        let body = json!({"token": token, "machine_id": machine});
        self.post("/mirrory/validate-token", &[], &body).await
    }

    pub async fn validate(&mut self, token: &str, machine: &str) -> Answer {
        self.try_validate(token, machine).await.unwrap()
    }

    /// Why a token is refused; empty when it is valid.
    pub async fn reason(&mut self, token: &str, machine: &str) -> String {
        let answer = self.validate(token, machine).await.ok();
        let body = answer.body();
        body["reason"].as_str().unwrap_or_default().to_owned()
    }
}
