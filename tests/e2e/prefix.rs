//! A reverse proxy that puts a path before the service's: what the service says of places leads there.

use hyper::Method;
use serde_json::{Value, json};
use url::Url;

use crate::{
    cli::accounts::{PASSWORD, create},
    client::{Answer, Client},
    harness::Place,
    postgres::{free_ports, shared},
    programs::nginx,
};

/// A client that knows the service by one URL, and follows what it is told from there.
struct Follower {
    client: Client,
    access_token: String,
}

impl Follower {
    async fn ask(&mut self, method: Method, url: &Url, body: &Value) -> Answer {
        let authorization = format!("Bearer {}", self.access_token);
        let mut headers = vec![("authorization", &*authorization)];
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        let path = &url[url::Position::BeforePath..];
        let answer = self.client.send(method, path, &headers, &body).await;
        answer.unwrap()
    }

    async fn get(&mut self, url: &Url) -> Answer {
        self.ask(Method::GET, url, &Value::Null).await
    }
}

/// Where a link of a page leads.
fn next(page: &Url, answer: &Answer) -> Option<Url> {
    let link = answer.header("link")?;
    let target = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"");
    Some(page.join(target.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_locations_lead_to_what_they_name_below_the_path_of_a_proxy() {
    let place = Place::sqlite();
    let server = place.start().await;
    create(&place, &["--email", "ada@shop.example"]);
    let port = free_ports().next().unwrap();
    let below = format!(
        "server {{ listen 127.0.0.1:{port};\n\
         location /shop/tokens/ {{ proxy_pass http://{}/; }} }}\n",
        server.address
    );
    let _nginx = nginx(shared(), port, &below);
    let base = Url::parse(&format!("http://127.0.0.1:{port}/shop/tokens/")).unwrap();
    let mut follower = Follower {
        client: Client::new(([127, 0, 0, 1], port).into()),
        access_token: String::new(),
    };
    let signing_in = json!({"email": "ada@shop.example", "password": PASSWORD});
    let jwt = base.join("api/v1/jwt").unwrap();
    let signed_in = follower.ask(Method::POST, &jwt, &signing_in).await.ok();
    follower.access_token = signed_in.field("access_token");

    let sites = base.join("api/v1/sites").unwrap();
    let mut made = Vec::new();
    for number in 0..3 {
        let body = json!({"name": format!("Shop {number}")});
        let answer = follower.ask(Method::POST, &sites, &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let location = sites.join(answer.header("location").unwrap()).unwrap();
        let shown = follower.get(&location).await.ok();
        assert_eq!(shown.field("id"), answer.field("id"));
        made.push(shown.field("id"));
    }
    made.sort();

    let mut page = Some(base.join("api/v1/sites?limit=2&mine=1").unwrap());
    let mut seen = Vec::new();
    while let Some(url) = page {
        assert!(url.path().starts_with(base.path()), "{url}");
        let answer = follower.get(&url).await.ok();
        let rows = answer.body();
        let ids = rows.as_array().unwrap().iter().map(|row| &row["id"]);
        seen.extend(ids.map(|id| id.as_str().unwrap().to_owned()));
        page = next(&url, &answer);
    }
    assert_eq!(seen, made);

    let docs = base.join("docs").unwrap();
    let answer = follower.get(&docs).await;
    let page = docs.join(answer.header("location").unwrap()).unwrap();
    follower.get(&page).await.ok();
    let script = page.join("swagger-initializer.js").unwrap();
    let script = follower.get(&script).await.ok().text;
    let document = script.split("\"url\": \"").nth(1).unwrap();
    let document = page.join(document.split('"').next().unwrap()).unwrap();
    let described = follower.get(&document).await.ok().body();
    let named = described["servers"][0]["url"].as_str().unwrap();
    assert_eq!(document.join(named).unwrap(), base);
}
