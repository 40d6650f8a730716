//! Known tokens while people sign in, on a core that is well used and not used up: when it is, the
//! fifth of it that hashing takes is taken in the kernel's slices, of 4 ms mostly, and each of them is
//! waited for by every connection; and whether the time of a failed sign-in tells that there is such
//! an account.

use std::net::{Ipv4Addr, SocketAddr};

use mirrory::types::clock::{Clock, Monotonic};

use crate::{
    Outcome,
    bench::Bench,
    connection::Connection,
    generator::Load,
    measure::{Contender, median},
    paced::{Pace, Paced},
    report::Goal,
    requests::{self, Endpoint},
};

const PASSWORD: &str = "correct horse battery";
const WRONG_PASSWORD: &str = "correct horse cavalry";

const ACCOUNTS: u32 = 20;

/// They ask for more than half of what 64 would get.
const CONNECTIONS: u32 = 4;

const SIGN_INS: Pace = Pace {
    rate: 20,
    first: Ipv4Addr::new(127, 0, 2, 1),
    addresses: 20,
};
const SIGNED_IN: &[&[u8]] = &[Endpoint::SignIn.expects()];

/// Each pair comes from an address of its own, which may fail a few times before it must wait. Far
/// fewer failures an account than its name may have.
const FAILING_FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 1);
const PAIRS: u32 = 200;

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let service = bench.on_postgres().await;
    let instance = bench.start(&service).await?;
    let server = &instance.server;
    let emails = service.make_accounts(ACCOUNTS, PASSWORD)?;
    let sign_ins = emails
        .iter()
        .map(|email| requests::sign_in(email, PASSWORD));
    let sign_ins = Paced::new(server.address, SIGN_INS, sign_ins.collect(), SIGNED_IN);

    let validate = requests::validate(&instance.tokens);
    let load = Load {
        connections: CONNECTIONS,
        ..bench.load(server, Endpoint::Validate, validate)
    };
    let contenders = [
        Contender::new("quiet", server, load.clone()).on_postgres()?,
        Contender::beside("20 sign-ins a second", server, load, sign_ins.clone()).on_postgres()?,
    ];
    let title = "While people sign in: validate, PostgreSQL";
    let [quiet, beside] = bench.compare(title, &contenders).await?;
    println!("{sign_ins}");
    let ratio = beside.ratio_to(&quiet, |sample| sample.p99);
    let name = "validate beside 20 sign-ins a second, of its quiet p99";
    bench.report.add_of(&beside, name, ratio, Goal::Most(3.0));

    let [known, unknown] = failing(server.address, &emails).await?;
    println!("A failed sign-in, median: {known:.2} ms known, {unknown:.2} ms unknown");
    let name = "a failed sign-in, the slower of known and unknown, of the other";
    let ratio = (known / unknown).max(unknown / known);
    bench.report.add(name, ratio, Goal::Most(1.1));
    Ok(())
}

/// How long a sign-in with a wrong password takes, in milliseconds: of an account that there is, and
/// of one that there is not.
async fn failing(address: SocketAddr, emails: &[String]) -> Outcome<[f64; 2]> {
    let mut times = [const { Vec::new() }; 2];
    for (number, email) in (0..PAIRS).zip(emails.iter().cycle()) {
        let source = Ipv4Addr::from_bits(FAILING_FROM.to_bits() + number);
        let mut connection = Connection::open_from(source, address).await?;
        let nobody = format!("n{email}");
        // Neither is always the first.
        let mut turns = [(0, email), (1, &nobody)];
        turns.rotate_left(usize::from(number % 2 == 1));
        for (whose, email) in turns {
            let request = requests::sign_in(email, WRONG_PASSWORD);
            times[whose].push(failure(&mut connection, &request).await?);
        }
    }
    Ok(times.map(median))
}

async fn failure(connection: &mut Connection, request: &[u8]) -> Outcome<f64> {
    let clock = Clock::system();
    let answer = connection.exchange(request).await?;
    let time = clock.monotonic().since(Monotonic::default());
    if answer.status != 401 || !answer.contains(b"\"invalid_credentials\"") {
        let body = String::from_utf8_lossy(answer.body);
        return Err(format!("not a failed sign-in: {} {body}", answer.status).into());
    }
    Ok(time.as_secs_f64() * 1000.0)
}
