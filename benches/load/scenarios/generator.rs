//! Shows that the load generator is no slower than `wrk`: a slow one would make the bare server
//! look slow, and every ratio to it good.

use crate::{
    Outcome, bare,
    bench::Bench,
    options::Issuing,
    requests::{self, Endpoint},
    tokens::{Token, machine_id},
    wrk,
};

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let bare = bench.bare(Issuing::Nothing)?;
    let tokens = (0..bench.plan.connections).map(|number| Token {
        text: bare::TOKEN.to_owned(),
        id: String::new(),
        machine_id: machine_id(number),
    });
    let requests = requests::validate(&tokens.collect::<Vec<Token>>());
    let load = bench.load(&bare, Endpoint::Validate, requests);
    match wrk::compare(&load, bench.folder.path()).await? {
        None => println!("\nThe load generator is not compared: wrk is not installed."),
        Some(share) => {
            println!("\nThe load generator reaches {share:.2} of wrk's rate on bare axum.");
            if share < wrk::LEAST_SHARE {
                bench
                    .report
                    .fault("the load generator is slower than wrk".to_owned());
            }
        }
    }
    Ok(())
}
