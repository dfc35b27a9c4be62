// Runs the checks of one driver and says one line for each; see checks.py.
"use strict";
const { Client } = require("pg");

const LIMIT_MS = 40000;
const option = (name, otherwise) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const url = option("--url");
const mode = option("--mode", "transaction");
const pids = new Set();

function same(got, want) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`got ${a}, not ${b}`);
}

// While `work` runs, the client under test is served by another server than before.
async function elsewhere(work) {
  if (mode !== "transaction") return work();
  const other = new Client({ connectionString: url });
  await other.connect();
  await other.query("begin");
  pids.add((await other.query("select pg_backend_pid() as pid")).rows[0].pid);
  try {
    return await work();
  } finally {
    await other.query("rollback");
    await other.end();
  }
}

function limited(promise) {
  let timer;
  const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error("too late")), LIMIT_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function run(driver, checks) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await limited(check());
      console.log(`ok   ${driver}: ${name}`);
    } catch (e) {
      failed += 1;
      const line = /drv_\w+\.js:(\d+)/.exec(e.stack || "");
      console.log(`FAIL ${driver}: ${name}: line ${line ? line[1] : 0}: ${String(e.message).slice(0, 300)}`);
    }
  }
  if (mode === "transaction") {
    const good = pids.size >= 2;
    failed += good ? 0 : 1;
    console.log(`${good ? "ok  " : "FAIL"} ${driver}: ${pids.size} servers were seen`);
  }
  process.exit(failed ? 1 : 0);
}

async function fails(promise, code) {
  try {
    await promise;
  } catch (e) {
    same(e.code, code);
    return;
  }
  throw new Error(`no error ${code}`);
}

module.exports = { url, mode, pids, same, elsewhere, run, fails };
