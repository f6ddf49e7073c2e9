//! A PostgreSQL server in a directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::load::Load;
use super::programs::{Programs, run};
use crate::exit::{Failure, Result};

/// Clients of a load, as many threads each.
const CLIENTS: &str = "2";

/// Stopped, as a crash would, when this is dropped.
pub struct Server {
    programs: Rc<Programs>,
    data: PathBuf,
    /// Of its own: its socket, its log and those of loads.
    dir: PathBuf,
    port: String,
    is_running: bool,
}

impl Server {
    /// A server that is not started yet. Its data are below a mounted directory.
    pub fn new(programs: &Rc<Programs>, mount: &Path, dir: &Path, port: u16) -> Result<Self> {
        let dir = dir.join("run");
        programs.make_directory(&dir)?;
        Ok(Self {
            programs: programs.clone(),
            data: mount.join("data"),
            dir,
            port: port.to_string(),
            is_running: false,
        })
    }

    /// Makes a cluster whose pages have checksums.
    pub fn init(&self) -> Result {
        self.programs.make_directory(&self.data)?;
        let mut initdb = self.programs.postgres("initdb");
        initdb.args(["--data-checksums", "--locale=C", "--encoding=UTF8"]);
        initdb.args(["--auth=trust", "--username=postgres"]);
        run("initdb", initdb.arg("-D").arg(&self.data)).map(drop)
    }

    /// Removes what says that a server runs here: of a clone that is its source's, which does.
    pub fn disown(&self) -> Result {
        let path = self.data.join("postmaster.pid");
        fs::remove_file(&path).map_err(|error| Failure::io("remove", path.display(), error))
    }

    /// Starts it, and waits until it has recovered.
    pub fn start(&mut self) -> Result {
        let options = format!(
            "-p {} -k {} -c listen_addresses=",
            self.port,
            self.dir.display()
        );
        let mut start = self.programs.postgres("pg_ctl");
        start
            .args(["start", "--wait", "--silent", "-D"])
            .arg(&self.data);
        start.arg("-l").arg(self.log()).args(["-o", &options]);
        self.is_running = true;
        run("pg_ctl", &mut start).map(drop).map_err(|error| {
            // pg_ctl only says that it did not come up.
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let last = log.lines().rfind(|line| line.contains("FATAL"));
            match last {
                Some(last) => Failure::io("start", "PostgreSQL", std::io::Error::other(last)),
                None => error,
            }
        })
    }

    /// Whether it found that it had not been shut down, and recovered.
    pub fn has_recovered(&self) -> Result<bool> {
        let log = fs::read_to_string(self.log())
            .map_err(|error| Failure::io("read", self.log().display(), error))?;
        Ok(log.contains("automatic recovery in progress") && log.contains("redo done"))
    }

    /// Shuts it down.
    pub fn stop(&mut self) -> Result {
        self.end("fast")
    }

    /// What a statement finds.
    pub fn query(&self, sql: &str) -> Result<String> {
        let mut psql = self.client("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        Ok(run("psql", &mut psql)?.trim().to_owned())
    }

    /// Checks every table and index of every database, and that tables are in their indexes.
    pub fn amcheck(&self) -> Result {
        let mut amcheck = self.client("pg_amcheck");
        amcheck.args(["--all", "--install-missing", "--heapallindexed"]);
        run("pg_amcheck", &mut amcheck).map(drop)
    }

    /// Makes the tables of a load.
    pub fn prepare_load(&self, scale: u32) -> Result {
        let mut pgbench = self.client("pgbench");
        pgbench.args(["-i", "-q", "-s", &scale.to_string()]);
        run("pgbench", &mut pgbench).map(drop)
    }

    /// Starts a load of that many seconds. Its transactions are noted in files of that name.
    pub fn load(&self, seconds: u32, name: &str) -> Result<Load> {
        let prefix = self.dir.join(name);
        let mut pgbench = self.client("pgbench");
        pgbench.args([
            "-n",
            "-c",
            CLIENTS,
            "-j",
            CLIENTS,
            "-T",
            &seconds.to_string(),
        ]);
        pgbench.arg("--log").arg("--log-prefix").arg(&prefix);
        Load::start(&mut pgbench, &self.dir, name)
    }

    fn client(&self, name: &str) -> std::process::Command {
        let mut command = self.programs.postgres(name);
        command.arg("-h").arg(&self.dir).args(["-p", &self.port]);
        command
            .args(["-U", "postgres"])
            .env("PGDATABASE", "postgres");
        command
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn end(&mut self, mode: &str) -> Result {
        if !self.is_running {
            return Ok(());
        }
        self.is_running = false;
        let mut stop = self.programs.postgres("pg_ctl");
        stop.args(["stop", "--wait", "--silent", "-m", mode, "-D"]);
        run("pg_ctl", stop.arg(&self.data)).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Something else failed before, and that is what is reported.
        let _ = self.end("immediate");
    }
}
