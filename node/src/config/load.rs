//! From the merged texts to a checked [`Config`]: each field alone, then what must hold between fields.

use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches};

use super::{
    arguments::{Arguments, Given, Merged, TABLE},
    error::{ConfigError, Source},
    file,
    member::{Addresses, Config, JoinToken, Logging, Mode, Peer, PeerPort, RaftTiming, Standalone},
    value,
};

use crate::state::{Level, Supported};

/// An election must survive a few lost heartbeats, or the shard changes its leader for nothing.
const HEARTBEATS_PER_ELECTION: u32 = 6;

impl Arguments {
    /// Reads the command line and the variables; what clap refuses it explains itself, and the process ends.
    pub fn from_environment() -> (Arguments, clap::ArgMatches) {
        let matches = Arguments::command().get_matches();
        let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        (arguments, matches)
    }
}

impl Config {
    /// The configuration that these arguments, the variables and the file give, and its print-out for `--print-config`.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn load(arguments: Arguments, matches: &clap::ArgMatches) -> Result<(Config, String), ConfigError> {
        let Arguments {
            subcommand: _,
            config: path,
            print_config: _,
            settings,
        } = arguments;
        let file = path.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let merged = Merged::new(matches, settings, file, path.as_deref());
        let alone = is_alone(&merged, path.is_some())?;
        let merged = merged.with_defaults(alone);
        let printed = print(&merged);
        Ok((check(merged, alone)?, printed))
    }
}

/// A member runs alone with `--dev`, or when it is given a name at the command line and nothing that belongs to a cluster.
fn is_alone(merged: &Merged, has_file: bool) -> Result<bool, ConfigError> {
    if let Some(dev) = &merged.dev
        && dev.parse(value::boolean)?
    {
        return Ok(true);
    }
    let of_a_cluster = [
        &merged.cluster_id,
        &merged.members,
        &merged.tls_dir,
        &merged.token_keys,
        &merged.bootstrap,
        &merged.discover,
        &merged.tenants,
        &merged.peer_advertise,
    ];
    // A pod always has a file: one without its clusterId is a mistake, and must not start a cluster of its own.
    Ok(merged.name.is_some() && !has_file && of_a_cluster.iter().all(|given| given.is_none()))
}

/// `field: value  # origin`, one line per setting that has a value: a file that `--config` takes.
fn print(merged: &Merged) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let lines = merged.list().into_iter().filter_map(|(field, given)| {
        let Given { text, origin, .. } = given?;
        // It lets whoever reads it into the group.
        let text = if field == "joinToken" { "(hidden)" } else { text };
        Some(format!("{field}: {}  # {origin}\n", quoted(text)))
    });
    lines.collect()
}

fn check(merged: Merged, alone: bool) -> Result<Config, ConfigError> {
    let Merged {
        dev,
        cluster_id,
        shard,
        name,
        data_dir,
        listen,
        health_listen,
        metrics_listen,
        admin_listen,
        peer_listen,
        peer_advertise,
        tls_dir,
        token_keys,
        heartbeat_interval,
        election_timeout,
        max_batch,
        compress_above,
        disk_reserve,
        drain_delay,
        max_level,
        hold_level,
        log_level,
        log_format,
        members,
        bootstrap,
        discover,
        join_token,
        self_replace,
        tenants,
        signing_key,
        credentials_dir,
    } = merged;

    let shard = required("shard", shard, "always")?.parse(|text| {
        text.parse::<u32>()
            .map_err(|_| "must be the index of a shard: 0 or more".to_owned())
    })?;
    let name = required("name", name, "in a cluster")?.parse(value::name)?;
    let dev = required("dev", dev, "always")?.parse(value::boolean)?;
    let logging = Logging {
        level: required("logLevel", log_level, "always")?.parse(str::parse)?,
        format: required("logFormat", log_format, "always")?.parse(str::parse)?,
    };
    let drain_delay = required("drainDelay", drain_delay, "always")?;
    let drain_delay = drain_delay.parse(|text| match value::duration(text)? {
        // The pod is killed after 75 s, and requests in flight need some of them.
        delay if delay.as_secs() > 30 => Err("is too long: at most 30s".to_owned()),
        delay => Ok(delay),
    })?;
    let compress_above = required("compressAbove", compress_above, "always")?.parse(value::quantity)?;
    let levels = Supported {
        highest: max_level.map_or(Ok(Level::NEWEST), |given| given.parse(value::level))?,
        holds: required("holdLevel", hold_level, "always")?.parse(value::boolean)?,
    };
    let disk_reserve = disk_reserve.map(|given| given.parse(value::quantity)).transpose()?;
    let raft = timing(
        required("heartbeatInterval", heartbeat_interval, "always")?,
        required("electionTimeout", election_timeout, "always")?,
        required("maxBatch", max_batch, "always")?,
    )?;
    let own = [
        required("listen", listen, "always")?,
        required("healthListen", health_listen, "always")?,
        required("metricsListen", metrics_listen, "always")?,
        required("adminListen", admin_listen, "always")?,
    ];
    let bootstrap = required("bootstrap", bootstrap, "always")?;
    let self_replace = required("selfReplace", self_replace, "always")?;
    ports(own.iter().chain(&peer_listen))?;
    let movable = own
        .iter()
        .filter(|given| alone && given.origin == Source::Default)
        .map(|given| given.field)
        .collect();
    let [data, health, metrics, admin] = own.map(|given| given.text.trim().to_owned());

    let (mode, peer) = if alone {
        let foreign = [
            cluster_id,
            tls_dir,
            token_keys,
            peer_listen,
            peer_advertise,
            members,
            discover,
            join_token,
            tenants,
            signing_key,
            credentials_dir,
        ];
        refuse_foreign(foreign.iter().flatten())?;
        for switch in [&bootstrap, &self_replace] {
            if switch.parse(value::boolean)? {
                refuse_foreign([switch])?;
            }
        }
        let data_dir = match data_dir {
            Some(given) => Some(given.parse(value::path)?),
            None if dev => None,
            None => Some(PathBuf::from(format!("kvnode-{name}"))),
        };
        (Mode::Alone { data_dir }, None)
    } else {
        let because = "in a cluster (`kvnode --dev` runs one member alone)";
        let standalone = standalone(&name, members, bootstrap, tenants, signing_key, credentials_dir)?;
        let listen = required("peerListen", peer_listen, because)?.text.trim().to_owned();
        let listed = standalone
            .members
            .iter()
            .find(|member| member.name == name)
            .map(|member| member.peer.clone());
        let advertise = match peer_advertise {
            Some(given) => given.parse(value::address)?,
            None => listed.unwrap_or_else(|| format!("{name}:{}", listen.rsplit(':').next().unwrap_or_default())),
        };
        let mode = Mode::Cluster {
            cluster_id: required("clusterId", cluster_id, because)?
                .parse(|text| text.parse().map_err(|_| "is not a UUID; `kvnode certs` makes one".to_owned()))?,
            data_dir: required("dataDir", data_dir, because)?.parse(value::path)?,
            tls_dir: required("tlsDir", tls_dir, because)?.parse(value::path)?,
            token_keys: required("tokenKeys", token_keys, because)?.parse(value::path)?,
            self_replace: self_replace.parse(value::boolean)?,
            join_token: join_token.map(|given| given.parse(join_token_of)).transpose()?,
            discover: discover.map(|given| given.parse(value::address)).transpose()?,
            standalone,
        };
        (mode, Some(PeerPort { listen, advertise }))
    };
    let addresses = Addresses {
        data,
        health,
        metrics,
        admin,
        peer,
        movable,
    };
    Ok(Config {
        mode,
        shard,
        name,
        addresses,
        raft,
        compress_above,
        disk_reserve,
        levels,
        drain_delay,
        logging,
    })
}

fn join_token_of(text: &str) -> Result<JoinToken, String> {
    JoinToken::read(text).ok_or_else(|| "is no join token: `kvnode join-token` makes one".to_owned())
}

/// A member alone has no use for what belongs to a cluster, and must not seem to obey it.
fn refuse_foreign<'a>(given: impl IntoIterator<Item = &'a Given>) -> Result<(), ConfigError> {
    match given.into_iter().next() {
        None => Ok(()),
        Some(given) => Err(ConfigError::Conflict {
            field: given.field,
            with: "dev",
            why: "a member alone has no peers and makes its own certificates, keys and tenant; drop one of the two",
        }),
    }
}

fn required(field: &'static str, given: Option<Given>, because: &'static str) -> Result<Given, ConfigError> {
    given.ok_or_else(|| {
        let row = TABLE.iter().find(|row| row.field == field);
        let spelled = |spell: fn(&super::arguments::Row) -> &str| row.map(spell).unwrap_or_default().to_owned();
        ConfigError::Missing {
            field,
            flag: spelled(|row| row.flag),
            variable: spelled(|row| row.variable),
            because,
        }
    })
}

fn timing(heartbeat: Given, election: Given, max_batch: Given) -> Result<RaftTiming, ConfigError> {
    let heartbeat_interval = heartbeat.parse(value::duration)?;
    let election_timeout = election.parse(value::duration)?;
    if heartbeat_interval.as_millis() < 10 {
        return Err(heartbeat.refuse("is too short: at least 10ms"));
    }
    if election_timeout < heartbeat_interval * HEARTBEATS_PER_ELECTION {
        return Err(election.refuse(format!(
            "must be at least {HEARTBEATS_PER_ELECTION} times heartbeatInterval ({}): raise it, or shorten heartbeatInterval",
            heartbeat.text
        )));
    }
    if election_timeout.as_secs() > 60 {
        return Err(election.refuse("is too long: at most 60s, or the shard stays without a leader for minutes"));
    }
    let max_batch = max_batch.parse(|text| match value::whole(text)? {
        count @ 1..=65_536 => Ok(count),
        _ => Err("must be between 1 and 65536".to_owned()),
    })?;
    Ok(RaftTiming {
        heartbeat_interval,
        election_timeout,
        max_batch,
    })
}

/// Checks each address, and that no two ports are one.
fn ports<'a>(given: impl IntoIterator<Item = &'a Given>) -> Result<(), ConfigError> {
    let mut seen: Vec<(&'static str, String)> = Vec::new();
    for port in given {
        let address = port.parse(value::address)?;
        if let Some((other, _)) = seen.iter().find(|(_, taken)| *taken == address && !address.ends_with(":0")) {
            let why = "both listen on the same address; give each its own port";
            return Err(ConfigError::Conflict {
                field: port.field,
                with: other,
                why,
            });
        }
        seen.push((port.field, address));
    }
    Ok(())
}

fn standalone(
    name: &str,
    members: Option<Given>,
    bootstrap: Given,
    tenants: Option<Given>,
    signing_key: Option<Given>,
    credentials_dir: Option<Given>,
) -> Result<Standalone, ConfigError> {
    let bootstrap_now = bootstrap.parse(value::boolean)?;
    let members = match members {
        Some(given) => {
            let members = given.parse(peers)?;
            if !members.iter().any(|member| member.name == name) {
                return Err(given.refuse(format!("does not list this member: add {name}=HOST:PORT, or correct --name")));
            }
            members
        }
        None if bootstrap_now => {
            return Err(bootstrap.refuse("needs --members: a group is formed of the members that are listed there"));
        }
        None => Vec::new(),
    };
    let tenants_path = tenants.map(|given| given.parse(value::path)).transpose()?;
    let credentials = match (signing_key, credentials_dir) {
        (Some(key), Some(directory)) if tenants_path.is_some() => Some((key.parse(value::path)?, directory.parse(value::path)?)),
        (Some(key), Some(_)) => return Err(key.refuse("needs --tenants: tokens are written for the tenants of that file")),
        (Some(key), None) => return Err(key.refuse("needs --credentials-dir: the directory that the tokens are written into")),
        (None, Some(directory)) => return Err(directory.refuse("needs --signing-key: the key that signs the tokens")),
        (None, None) => None,
    };
    Ok(Standalone {
        members,
        bootstrap: bootstrap_now,
        tenants: tenants_path,
        credentials,
    })
}

/// `a=host:7400,b=host:7401,c=host:7402`.
fn peers(text: &str) -> Result<Vec<Peer>, String> {
    let mut members: Vec<Peer> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, peer) = part
            .split_once('=')
            .ok_or_else(|| format!("must be NAME=HOST:PORT,… (`{part}` has no `=`)"))?;
        let name = value::name(name).map_err(|problem| format!("has a bad name `{name}`: it {problem}"))?;
        let peer = value::address(peer).map_err(|problem| format!("has a bad address `{peer}`: it {problem}"))?;
        if members.iter().any(|member| member.name == name || member.peer == peer) {
            return Err(format!("names {name} or {peer} twice: each member has one name and one address"));
        }
        members.push(Peer { name, peer });
    }
    match members.len() {
        1 | 3 | 5 | 7 => Ok(members),
        count => Err(format!(
            "lists {count} members: a group has 1, 3, 5 or 7, so that a majority can always be told"
        )),
    }
}
