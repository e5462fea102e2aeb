//! The real program, from outside: started, asked over its ports, ended and killed.

mod admin;
mod alone;
mod certs;
mod cluster;
mod http;
mod member;
