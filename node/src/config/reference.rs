//! The reference page `docs/node-flags.md`, made from the table that makes the flags.

use std::fmt::Write;

use super::arguments::{Row, TABLE};

/// The page; a test compares the committed file with it, `KVNODE_BLESS=1 cargo test -p kvfleet-node --test config` writes it.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Settings of `kvnode`\n\n\
         Made from the program (`node/src/config/arguments.rs`); a test keeps it up to date.\n\n\
         Every setting is a flag, a variable and a field of the YAML file that `--config` (or `KVNODE_CONFIG`) names. The flag wins over the\n\
         variable, the variable over the file. An unknown flag or field, and a value that cannot be used, end the process with a message that\n\
         names it and says what to write. `kvnode --print-config` prints what is in force and where it came from.\n\n\
         Durations are numbers with `ms`, `s`, `m`, `h` (`1m30s`). A member runs *alone* with `--dev`, or with a `--name` and nothing that\n\
         belongs to a cluster (no `--config`, no `--cluster-id`, …).\n\n\
         | flag | variable | field | default | alone | what it is |\n|---|---|---|---|---|---|\n",
    );
    for Row {
        field,
        flag,
        variable,
        placeholder,
        default,
        alone,
        help,
    } in TABLE
    {
        let shown = |value: &Option<&str>| value.map_or(String::from("–"), |text| format!("`{text}`"));
        // Writing into a string does not fail.
        let _ = writeln!(
            page,
            "| `--{flag} {placeholder}` | `{variable}` | `{field}` | {} | {} | {} |",
            shown(default),
            shown(alone),
            help.replace('|', "\\|")
        );
    }
    page.push_str(
        "\n`kvnode certs --out DIR [--cluster-id UUID] [--host HOST]…` makes what a cluster without Kubernetes needs: `ca.crt`, `ca.key`,\n\
         `tls.crt`, `tls.key` (members), `operator.crt`, `operator.key` (admin port), `jwt.pem` (signs tokens) and `jwks.json` (checks them).\n\n\
         `kvnode dump-log --data-dir DIR [--from INDEX] [--to INDEX] [--values]` prints a stopped member's log as NDJSON; it only reads.\n\n\
         `kvnode join-token --cluster-id UUID --signing-key FILE [--valid-for DURATION]` prints a token with which one new process may join, once.\n",
    );
    page
}
