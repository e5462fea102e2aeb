//! A network of its own for each fleet: every member in a network namespace, joined by a bridge in one more.
//!
//! The test stands outside, on the bridge's address `.1`, and reaches every member whatever is cut between them: so a member that is cut off
//! from the others can still be asked. Cuts are nft rules at the receiving member, by sender, so that each direction can be cut alone.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};

use super::tool;

/// Namespaces and bridge; gone when dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    subnet: [u8; 3],
    members: usize,
}

impl Network {
    /// Makes a network for `members` members. `name` is part of the namespaces' names, at most 11 characters.
    ///
    /// # Errors
    /// When the caller is not root, or `ip` or `nft` fail.
    pub(super) fn new(name: &str, members: usize) -> Result<Self> {
        let network = Network {
            name: name.to_owned(),
            subnet: free_subnet()?,
            members,
        };
        // From here on the drop takes away what was made.
        network.make().context("a network for the fleet (this needs root)")?;
        Ok(network)
    }

    fn make(&self) -> Result<()> {
        let hub = self.hub();
        let outside = self.outside();
        let ip = |line: String| tool::run("ip", &line.split(' ').collect::<Vec<_>>());
        ip(format!("netns add {hub}"))?;
        ip(format!("-n {hub} link add bridge type bridge"))?;
        ip(format!("-n {hub} link set bridge up"))?;
        ip(format!("link add {outside} type veth peer name outside netns {hub}"))?;
        ip(format!("-n {hub} link set outside master bridge up"))?;
        let [a, b, c] = self.subnet;
        ip(format!("addr add {a}.{b}.{c}.1/24 dev {outside}"))?;
        ip(format!("link set {outside} up"))?;
        for number in 0..self.members {
            let namespace = self.namespace(number);
            ip(format!("netns add {namespace}"))?;
            ip(format!(
                "-n {namespace} link add eth0 type veth peer name member{number} netns {hub}"
            ))?;
            ip(format!("-n {hub} link set member{number} master bridge up"))?;
            ip(format!("-n {namespace} addr add {}/24 dev eth0", self.address(number)))?;
            ip(format!("-n {namespace} link set eth0 up"))?;
            ip(format!("-n {namespace} link set lo up"))?;
            self.nft(number, "add table ip cut")?;
            self.nft(number, "add set ip cut senders { type ipv4_addr; }")?;
            self.nft(number, "add chain ip cut input { type filter hook input priority 0; }")?;
            self.nft(number, "add rule ip cut input ip saddr @senders drop")?;
        }
        Ok(())
    }

    /// The address of a member.
    pub fn address(&self, number: usize) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, u8::try_from(number).unwrap_or(200) + 11)
    }

    /// The network namespace of a member, as a path for `nsenter --net=`.
    pub(super) fn path(&self, number: usize) -> String {
        format!("/run/netns/{}", self.namespace(number))
    }

    /// Drops every packet on the way from one member to another, in that direction.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        self.nft(to, &format!("add element ip cut senders {{ {} }}", self.address(from)))
    }

    /// Drops every packet between a member and all others, both ways.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn isolate(&self, number: usize) -> Result<()> {
        for other in (0..self.members).filter(|other| *other != number) {
            self.cut(number, other)?;
            self.cut(other, number)?;
        }
        Ok(())
    }

    /// Lets every packet through again.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn heal(&self) -> Result<()> {
        (0..self.members).try_for_each(|number| self.nft(number, "flush set ip cut senders"))
    }

    fn nft(&self, number: usize, rule: &str) -> Result<()> {
        let net = format!("--net={}", self.path(number));
        tool::run("nsenter", &[&net, "nft", rule]).map(drop)
    }

    fn hub(&self) -> String {
        format!("{}hub", self.name)
    }

    fn outside(&self) -> String {
        format!("{}out", self.name)
    }

    fn namespace(&self, number: usize) -> String {
        format!("{}m{number}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The veth pairs go with the namespaces.
        let names = (0..self.members).map(|number| self.namespace(number)).chain([self.hub()]);
        for name in names.filter(|name| std::path::Path::new("/run/netns").join(name).exists()) {
            tool::attempt("ip", &["netns", "delete", &name]);
        }
    }
}

/// A /24 of 10.0.0.0/8 that no interface of this machine is in.
fn free_subnet() -> Result<[u8; 3]> {
    let taken = tool::run("ip", &["-4", "-oneline", "address"])?;
    let first = std::process::id() % 250;
    for step in 0..250_u32 {
        for second in [201_u8, 202, 203] {
            let third = u8::try_from((first + step) % 250).unwrap_or(0);
            if !taken.contains(&format!(" 10.{second}.{third}.")) {
                return Ok([10, second, third]);
            }
        }
    }
    bail!("no free network between 10.201.0.0 and 10.203.249.0")
}
