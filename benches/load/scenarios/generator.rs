//! Shows that the load generator is no slower than `wrk`: a slow one would make the bare server
//! look slow, and every ratio to it good.

use crate::{
    Outcome,
    bench::Bench,
    requests::{self, Endpoint},
    service::Site,
    tokens::{self, Birth},
    wrk,
};

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let bare = bench.bare()?;
    let site = Site {
        proxy_secret: "0".repeat(88),
    };
    let count = bench.plan.connections;
    let tokens = tokens::issue(bare.address, &[site], count, Birth::Unbound).await?;
    let requests = requests::validate(&tokens);
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
