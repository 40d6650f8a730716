//! Bindings: machines, a proxy and an operator race for the same tokens.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::join_all;
use mirrory::{keys::TokenClaims, store::changes::Actor, tokens::TokenState, types::ids::TokenId};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Noted, Order, check};
use crate::harness::{Instance, Store, commit, machine, on_both_stores};

on_both_stores!(bindings_are_linearizable);

const SEEDS: u64 = 12;
const TASKS: u64 = 6;
const CALLS: usize = 12;
const TOKENS: usize = 2;
const MACHINES: u32 = 3;

/// A call and its answer. Machines go by their number.
#[derive(Clone, Copy, Debug)]
enum Event {
    Bind { machine: u32, bound: bool },
    Look(Token),
    Release,
    Revoke,
}

/// All that the model knows of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Token {
    machine: Option<u32>,
    revoked: bool,
}

const NEW: Token = Token {
    machine: None,
    revoked: false,
};

fn step(token: &Token, event: &Event) -> Option<Token> {
    match *event {
        Event::Bind { machine, bound } => {
            let binds = !token.revoked && token.machine.is_none_or(|its| its == machine);
            let machine = if binds { Some(machine) } else { token.machine };
            (bound == binds).then_some(Token { machine, ..*token })
        }
        Event::Look(seen) => (seen == *token).then_some(*token),
        Event::Release => Some(Token {
            machine: None,
            ..*token
        }),
        Event::Revoke => Some(Token {
            revoked: true,
            ..*token
        }),
    }
}

/// Makes one call, chosen by `random`.
async fn call(instance: &Instance, claims: TokenClaims, random: &mut StdRng) -> Event {
    let token_id = claims.token_id;
    let Instance {
        database, tokens, ..
    } = instance;
    match random.random_range(0..100) {
        0..55 => {
            let number = random.random_range(0..MACHINES);
            let machine_id = machine(&number.to_string());
            let bound = instance.binds(claims, &machine_id).await.unwrap();
            Event::Bind {
                machine: number,
                bound,
            }
        }
        55..75 => {
            let record = tokens.find(token_id).await.unwrap().unwrap().record;
            Event::Look(Token {
                machine: record
                    .machine_id
                    .as_ref()
                    .map(|machine| machine.as_str().parse().unwrap()),
                revoked: record.state != TokenState::Active,
            })
        }
        75..98 => {
            commit!(database, |tx| tokens.release(tx, Actor::Operator, token_id));
            Event::Release
        }
        _ => {
            commit!(database, |tx| tokens.revoke(tx, Actor::Operator, token_id));
            Event::Revoke
        }
    }
}

async fn work(
    instance: Instance,
    order: Arc<Order>,
    tokens: Vec<TokenClaims>,
    mut random: StdRng,
) -> Vec<(TokenId, Noted<Event>)> {
    let mut history = Vec::new();
    for _ in 0..CALLS {
        let claims = tokens[random.random_range(0..tokens.len())];
        let noted = order.note(call(&instance, claims, &mut random)).await;
        history.push((claims.token_id, noted));
    }
    history
}

async fn bindings_are_linearizable(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let (site_id, _) = instances[0].create_site().await;
    for seed in 0..SEEDS {
        let mut tokens = Vec::new();
        for _ in 0..TOKENS {
            tokens.push(instances[0].issue(site_id).await.claims());
        }
        let order = Arc::new(Order::default());
        let tasks = (0..TASKS).map(|task| {
            let instance = instances[usize::try_from(task).unwrap() % 2].clone();
            let random = StdRng::seed_from_u64(seed * TASKS + task);
            tokio::spawn(work(instance, order.clone(), tokens.clone(), random))
        });
        let mut histories: HashMap<TokenId, Vec<Noted<Event>>> = HashMap::new();
        for done in join_all(tasks).await {
            for (token_id, noted) in done.unwrap() {
                histories.entry(token_id).or_default().push(noted);
            }
        }
        // A last look, so that nothing stays that nobody has seen.
        let mut calls = 0;
        for (token_id, mut history) in histories {
            let look = order.note(async {
                let record = instances[0]
                    .tokens
                    .find(token_id)
                    .await
                    .unwrap()
                    .unwrap()
                    .record;
                Event::Look(Token {
                    machine: record
                        .machine_id
                        .as_ref()
                        .map(|machine| machine.as_str().parse().unwrap()),
                    revoked: record.state != TokenState::Active,
                })
            });
            history.push(look.await);
            calls += history.len() - 1;
            check(seed, NEW, history, step);
        }
        assert_eq!(calls, usize::try_from(TASKS).unwrap() * CALLS);
    }
}
