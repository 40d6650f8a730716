//! ROOM passwords: which ones are taken, and how they are hashed.
//!
//! argon2id (RFC 9106) takes some 20 ms of a core and 19 MiB on purpose. So hashing has threads of
//! its own, few enough that the data plane keeps its cores, and a bounded queue before them, of
//! which each account has a share: who finds no place is told so before anything is looked up.

mod hasher;
mod password;

pub use hasher::{HashError, Overloaded, PasswordHash, Passwords, Turn, Verdict, Whose};
pub use password::{InvalidPassword, NewPassword, Password};
