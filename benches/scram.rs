//! CPU time of the client's side of a SCRAM-SHA-256 exchange at PostgreSQL's 4096 rounds.
//!
//! `cargo bench --no-default-features --features auth --bench scram`. The peer is a PBKDF2 that keys HMAC
//! anew in every round, as a plain implementation does. Each figure is the best of 1000 calls.

use core::hint::black_box;
use core::num::NonZeroU32;
use core::time::Duration;
use std::time::Instant;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tapster::auth::{
    ChannelBinding, DerivedKeys, Nonce, ScramClient, ScramKeys, ScramSecret, ScramServer, ScramVerifier,
};

const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).unwrap();
const SALT: &[u8] = b"sixteen bytes !!";
const PASSWORD: &[u8] = b"correct horse battery staple";

fn main() {
    report("PBKDF2, keyed once", || {
        black_box(ScramKeys::derive(black_box(PASSWORD), SALT, ROUNDS));
    });
    report("PBKDF2, keyed in every round", || {
        black_box(rekeyed(black_box(PASSWORD)));
    });
    let verifier = ScramVerifier::from_password(PASSWORD, SALT, ROUNDS);
    let cached = exchange(&verifier, None);
    report("both sides, password", || {
        black_box(exchange(&verifier, None));
    });
    report("both sides, cached keys", || {
        black_box(exchange(&verifier, Some(cached.clone())));
    });
}

fn report(name: &str, mut work: impl FnMut()) {
    let mut time = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    let best = (0..1000).map(|_| time()).min().unwrap_or(Duration::MAX);
    println!("{name:<30} {best:>12.3?}");
}

fn exchange(verifier: &ScramVerifier, cached: Option<DerivedKeys>) -> DerivedKeys {
    let secret = ScramSecret::from_password(PASSWORD);
    let nonce = Nonce::from_random([1; 18]);
    let client = ScramClient::new(&secret, nonce, ChannelBinding::NotSupported, 1_000_000, cached);
    let server = ScramServer::new(verifier.clone(), Nonce::from_random([2; 18]), None);
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    client.client_first(&mut sent);
    let server =
        server.client_first(client.mechanism(), &sent, &mut received).expect("the first message fits");
    sent.clear();
    let client = client.server_first(&received, &mut sent).expect("the server continues");
    received.clear();
    server.client_final(&sent, &mut received).expect("the password is right");
    client.server_final(&received).expect("the server knows the password")
}

fn rekeyed(password: &[u8]) -> [u8; 32] {
    let mac = |message: &[u8]| -> [u8; 32] {
        let keyed = Hmac::<Sha256>::new_from_slice(password).expect("HMAC takes keys of every length");
        keyed.chain_update(message).finalize().into_bytes().into()
    };
    let mut block = mac(&[SALT, &1u32.to_be_bytes()].concat());
    let mut sum = block;
    for _ in 1..ROUNDS.get() {
        block = mac(&block);
        sum.iter_mut().zip(block).for_each(|(a, b)| *a ^= b);
    }
    sum
}
