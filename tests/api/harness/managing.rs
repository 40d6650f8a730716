//! People who manage sites, and their scripts.

use mirrory::{accounts::Role, types::ids::SiteId};
use serde_json::{Value, json};
use url::{Position, Url};

use super::{Answer, Call, PASSWORD, Person, SignedIn, TestApp, TestSite};

/// Somebody who manages sites.
pub struct Manager {
    pub person: Person,
    pub session: SignedIn,
}

impl TestApp {
    /// Somebody who owns sites, signed in.
    pub async fn manager(&self, username: &str) -> Manager {
        self.signed_in_as(username, Role::Owner).await
    }

    /// Somebody who manages all sites, signed in.
    pub async fn admin(&self, username: &str) -> Manager {
        self.signed_in_as(username, Role::Admin).await
    }

    /// Somebody with a role, signed in.
    pub async fn signed_in_as(&self, username: &str, role: Role) -> Manager {
        let person = self.person(username, role).await;
        let session = self.sign_in(&person).await;
        Manager { person, session }
    }

    /// Asks for something without a body.
    pub async fn see(&self, by: &Manager, path: &str) -> Answer {
        self.signed_in(&by.session, "GET", path).send().await
    }

    /// Makes a site in the name of somebody.
    pub async fn site_of(&self, owner: &Manager) -> TestSite {
        let made = self
            .ask(
                &owner.session,
                "POST",
                "/api/v1/sites",
                json!({"name": "a shop"}),
            )
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
        TestSite::from(&made.body)
    }

    /// An API token of somebody, with these scopes.
    pub async fn script(&self, of: &Manager, scopes: &[&str]) -> String {
        let body = json!({"name": "script", "scopes": scopes, "password": PASSWORD});
        let made = self
            .ask(&of.session, "POST", "/api/v1/api-tokens", body)
            .await;
        made.body["token"].as_str().unwrap().to_owned()
    }

    /// A request of a script.
    pub fn scripted(&self, token: &str, method: &str, path: &str) -> Call<'_> {
        let call = self.request(method, path);
        call.header("authorization", format!("token {token}"))
    }

    /// Every page of a list, and how many rows each had.
    pub async fn pages(&self, by: &Manager, path: &str) -> (Vec<Value>, Vec<usize>) {
        let (mut rows, mut lengths) = (Vec::new(), Vec::new());
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let answer = self.see(by, &path).await;
            next = answer.header("link").map(|link| next_page(&path, link));
            let page = answer.ok();
            let page = page.as_array().unwrap();
            lengths.push(page.len());
            rows.extend(page.iter().cloned());
        }
        (rows, lengths)
    }
}

impl From<&Value> for TestSite {
    fn from(shown: &Value) -> Self {
        let id: SiteId = shown["id"].as_str().unwrap().parse().unwrap();
        Self {
            id,
            secret: shown["proxy_secret"].as_str().unwrap().to_owned(),
        }
    }
}

/// The target of a link to the next page (RFC 8288), from the page at `path`.
pub fn next_page(path: &str, link: &str) -> String {
    let (target, relation) = link.split_once('>').unwrap();
    assert_eq!(relation, "; rel=\"next\"");
    resolve(path, target.strip_prefix('<').unwrap())
}

/// Where a reference leads that an answer of `path` has in it, as a client works it out (RFC 3986,
/// section 5.2), also when it knows the path with another one before it.
pub fn resolve(path: &str, reference: &str) -> String {
    let below = |prefix: &str| {
        let base = Url::parse(&format!("https://shop.example{prefix}{path}")).unwrap();
        let target = base.join(reference).unwrap();
        assert_eq!(target.origin(), base.origin(), "{reference}");
        let found = target[Position::BeforePath..].strip_prefix(prefix);
        found.unwrap_or_else(|| panic!("{target}")).to_owned()
    };
    let target = below("");
    assert_eq!(below("/some/prefix"), target);
    target
}
