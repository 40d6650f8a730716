use axum::Router;
use futures_util::poll;

use super::*;
use crate::app::exchange::Exchange;

fn places(connections: usize, per_address: usize) -> Places {
    Places::new(Limits {
        connections,
        per_address: NonZeroUsize::new(per_address),
        trusted_proxies: ["10.0.0.0/8".parse().unwrap()].into(),
    })
}

fn enter(places: &Places, peer: &str) -> Option<Place> {
    let gate = Gate::new(Router::new(), Duration::MAX);
    places.enter(&gate, SocketAddr::new(peer.parse().unwrap(), 1))
}

fn entered(places: &Places, peer: &str) -> Place {
    enter(places, peer).expect("there is room")
}

/// Whether its place was asked for, once.
async fn is_dismissed(place: &Place) -> bool {
    let mut dismissal = std::pin::pin!(place.conversation().dismissal());
    poll!(&mut dismissal).is_ready()
}

async fn has_room(places: &Places) -> bool {
    let mut room = std::pin::pin!(places.room());
    poll!(&mut room).is_ready()
}

fn ask(place: &Place) -> Exchange {
    Exchange::begin(Arc::clone(place.conversation()))
}

#[tokio::test]
async fn the_one_that_was_idle_for_the_longest_time_goes() {
    let places = places(3, 100);
    let [first, second, third, fourth] = ["::1", "::2", "192.0.2.1", "192.0.2.2"].map(|peer| {
        assert!(places.make_room());
        let place = entered(&places, peer);
        places.pulse().beat();
        place
    });
    drop(ask(&first));
    places.pulse().beat();
    let busy = ask(&second);
    assert!(has_room(&places).await);
    assert!(is_dismissed(&third).await);
    for other in [&first, &second, &fourth] {
        assert!(!is_dismissed(other).await);
    }
    drop(busy);
    let _fifth = entered(&places, "192.0.2.3");
    assert!(has_room(&places).await);
    assert!(is_dismissed(&fourth).await, "it never asked");
    let _sixth = entered(&places, "192.0.2.3");
    assert!(has_room(&places).await);
    assert!(is_dismissed(&first).await, "it asked before the second");
}

#[tokio::test]
async fn one_that_is_being_answered_never_goes_and_the_next_waits() {
    let places = places(2, 100);
    let three = ["::1", "::2", "::3"].map(|peer| entered(&places, peer));
    let mut exchanges: Vec<_> = three.iter().map(ask).collect();
    assert!(!has_room(&places).await);
    places.pulse().beat();
    assert!(!has_room(&places).await);
    for place in &three {
        assert!(!is_dismissed(place).await);
    }
    drop(exchanges.remove(1));
    assert!(has_room(&places).await);
    assert!(is_dismissed(&three[1]).await);
}

#[tokio::test]
async fn a_place_that_comes_free_is_there_at_once() {
    let places = places(1, 100);
    let [first, second] = ["::1", "::2"].map(|peer| entered(&places, peer));
    let _exchanges = [ask(&first), ask(&second)];
    let mut room = std::pin::pin!(places.room());
    assert!(poll!(&mut room).is_pending());
    drop(first);
    assert!(poll!(&mut room).is_ready());
}

#[tokio::test]
async fn those_on_their_way_out_do_not_pile_up() {
    let places = places(1, 1000);
    let mut held = vec![entered(&places, "::1")];
    for _ in 0..LEAVING {
        assert!(places.make_room());
        held.push(entered(&places, "::1"));
    }
    assert!(!places.make_room());
    held.remove(0);
    assert!(places.make_room());
}

#[tokio::test]
async fn an_address_has_so_many_and_the_next_takes_the_place_of_its_own() {
    let places = places(100, 2);
    let other = entered(&places, "192.0.2.9");
    let [first, second] = [entered(&places, "192.0.2.1"), entered(&places, "192.0.2.1")];
    let third = entered(&places, "::ffff:192.0.2.1");
    assert!(is_dismissed(&first).await);
    let _exchanges = [ask(&second), ask(&third)];
    assert!(
        enter(&places, "192.0.2.1").is_none(),
        "all are being answered"
    );
    assert!(!is_dismissed(&other).await);
    drop((second, third));
    assert!(enter(&places, "192.0.2.1").is_some());
}

#[tokio::test]
async fn a_network_of_ipv6_is_one_address() {
    let places = places(100, 1);
    let first = entered(&places, "2001:db8:0:1::1");
    let _elsewhere = entered(&places, "2001:db8:0:2::1");
    assert!(!is_dismissed(&first).await);
    let _second = entered(&places, "2001:db8:0:1:ffff::");
    assert!(is_dismissed(&first).await);
}

#[tokio::test]
async fn trusted_proxies_are_not_counted_by_address() {
    let places = places(100, 1);
    let all = [(); 3].map(|()| entered(&places, "::ffff:10.0.0.1"));
    for place in &all {
        assert!(place.is_of_proxy());
        assert!(!is_dismissed(place).await);
    }
    assert!(!entered(&places, "192.0.2.1").is_of_proxy());
}

#[tokio::test]
async fn nothing_is_left_of_those_that_have_gone() {
    let places = places(2, 2);
    for round in 0..100 {
        let place = entered(&places, &format!("192.0.2.{round}"));
        drop(ask(&place));
        let _room = has_room(&places).await;
        drop(place);
    }
    let kept = places.kept();
    assert!(kept.members.is_empty() && kept.order.is_empty() && kept.addresses.is_empty());
}
