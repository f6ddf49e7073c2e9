//! What was committed before a clone was made, and whether it is in the clone.

use super::server::Server;
use crate::exit::Result;

/// Rows that are added before each clone.
const ROWS: u32 = 1000;

const CHECKSUM: &str = "SELECT count(*) || ' rows, MD5 ' || \
                        md5(string_agg(n || who || what, ',' ORDER BY n)) FROM ledger";
const HISTORY: &str = "SELECT count(*) FROM pgbench_history";
/// Each transaction of pgbench adds one number to an account, a branch and a teller, and notes it.
const BALANCED: &str = "SELECT a = b AND b = t AND t = h FROM \
                        (SELECT sum(abalance) a FROM pgbench_accounts) accounts, \
                        (SELECT sum(bbalance) b FROM pgbench_branches) branches, \
                        (SELECT sum(tbalance) t FROM pgbench_tellers) tellers, \
                        (SELECT coalesce(sum(delta), 0) h FROM pgbench_history) history";

/// What a server had committed at a time.
pub struct Committed {
    checksum: String,
    transactions: u64,
}

/// Makes the table.
pub fn create(server: &Server) -> Result {
    let sql = "CREATE TABLE ledger (n serial PRIMARY KEY, who text, what text)";
    server.query(sql).map(drop)
}

/// Adds rows in the name of a head.
pub fn add(server: &Server, who: &str) -> Result {
    let sql = format!(
        "INSERT INTO ledger (who, what) SELECT '{who}', md5(g::text) FROM generate_series(1, {ROWS}) g"
    );
    server.query(&sql).map(drop)
}

impl Committed {
    /// What is committed now, at least.
    pub fn now(server: &Server) -> Result<Self> {
        Ok(Self {
            checksum: server.query(CHECKSUM)?,
            transactions: transactions(server)?,
        })
    }

    /// Whether a server has all of it, and no more of the ledger.
    pub fn is_in(&self, server: &Server) -> Result<bool> {
        Ok(server.query(CHECKSUM)? == self.checksum && transactions(server)? >= self.transactions)
    }

    /// In words.
    pub fn words(&self) -> String {
        let checksum: String = self.checksum.chars().take(22).collect();
        format!("{checksum}.., {} transactions", self.transactions)
    }
}

/// Whether every transaction of the load is there as a whole or not at all.
pub fn is_balanced(server: &Server) -> Result<bool> {
    Ok(server.query(BALANCED)? == "t")
}

/// Whose rows are in the ledger.
pub fn writers(server: &Server) -> Result<String> {
    server.query("SELECT string_agg(DISTINCT who, ' ' ORDER BY who) FROM ledger")
}

fn transactions(server: &Server) -> Result<u64> {
    Ok(server.query(HISTORY)?.parse().unwrap_or(0))
}
