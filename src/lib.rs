//! Mirrory: a token service for people who sell a desktop app through a WordPress site.
//!
//! The site's proxy deducts coins from a user and asks for a token; the app validates it when it
//! starts, and the first valid verdict binds it to that machine. A plan says how many calls a site
//! may make.
//!
//! # The map
//!
//! A folder here is a *room*: one capability, whole, from its endpoints to its SQL.
//!
//! | room | what it owns |
//! |---|---|
//! | [`sites`] | the WordPress installations, their plans and proxy secrets |
//! | [`keys`] | the signing keys, sealed in the store; signing and verifying |
//! | [`quota`] | calendar windows, the ledger of calls, the layer that charges |
//! | [`attempts`] | failures by address, verdicts by token: bounded, in memory |
//! | [`tokens`] | issuing, validating, binding, revoking, releasing |
//! | [`accounts`], [`passwords`] | the people who run sites; how their passwords are hashed |
//! | [`sign_in`], [`sessions`] | proving who somebody is; sign-ins that go on, and their tokens |
//! | [`two_factor`], [`api_tokens`] | codes of an app and recovery codes; what scripts call with |
//! | [`callers`] | the layer before the management API: who calls, and with which scopes |
//! | [`audit`] | who did what, when and from where |
//! | [`moving`] | everything that a store holds, as a file, and back |
//! | [`doctor`] | what is wrong with a set-up, and what to do |
//!
//! Around the rooms stands a frame that knows HTTP, configuration and start-up:
//!
//! | frame | what it does |
//! |---|---|
//! | [`router`] | every mount and layer on one screen |
//! | [`middleware`] | the layers that know no capability |
//! | [`error`] | the one error of the API, and the only place that maps a status |
//! | `extract`, `query`, `paging` | reading bodies and queries; lists that are told page by page |
//! | `new_file` | files that are seen whole or not at all |
//! | [`store`] | both databases behind one face, transactions, the change log |
//! | [`config`], [`telemetry`], [`types`] | settings; log lines, metrics, traces; newtypes, the clock, randomness |
//! | [`app`], [`janitor`], [`health`], [`openapi`] | start-up and the server; the clean-up; probes; the document |
//! | [`cli`] | one file a group of commands |
//!
//! A request passes the edge, the client's address, then the two layers of its room: `identify`
//! reads it once, proves its caller and says what it costs; `quota` charges that and settles it on
//! the response. Then comes the endpoint, which does the one thing that it is for.
//!
//! # Adding a room
//!
//! One folder with a `mod.rs` that documents it and has its `router()`; one `mod` line here; one
//! mount in [`router`]; one field in [`state::AppState`]; its section in [`config`]; its migrations
//! for both databases. Its SQL stays in its own `store.rs`, as static texts that both databases
//! take, and a change that others must hear of goes through [`store::changes::record`].

pub mod accounts;
pub mod api_tokens;
pub mod app;
pub mod attempts;
pub mod audit;
pub mod callers;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod error;
pub(crate) mod extract;
pub mod health;
pub mod janitor;
pub mod keys;
pub mod middleware;
pub mod moving;
pub(crate) mod new_file;
pub mod openapi;
pub(crate) mod paging;
pub mod passwords;
pub(crate) mod query;
pub mod quota;
pub mod router;
pub mod sessions;
pub mod sign_in;
pub mod sites;
pub mod state;
pub mod store;
pub mod telemetry;
pub mod tokens;
pub mod two_factor;
pub mod types;
