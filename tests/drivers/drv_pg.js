// node-postgres: plain, with values, named, queued, LISTEN, cursors, streams, its pool.
"use strict";
const { Client, Pool } = require("pg");
const Cursor = require("pg-cursor");
const QueryStream = require("pg-query-stream");
const { url, mode, pids, same, elsewhere, run, fails } = require("./checks.js");

async function client(more = {}) {
  const c = new Client({ connectionString: url, ...more });
  await c.connect();
  return c;
}

async function one(c, text, values) {
  return Object.values((await c.query(text, values)).rows[0])[0];
}

async function pid(c) {
  const got = await one(c, "select pg_backend_pid()");
  pids.add(got);
  return got;
}

run("node-postgres", {
  "plain, values, many statements": async () => {
    const c = await client();
    same(await one(c, "select 1"), 1);
    same(await one(c, "select $1::int + 1", [4]), 5);
    same((await c.query("select 1 as a; select 2 as b")).map((r) => r.rows[0]), [{ a: 1 }, { b: 2 }]);
    same((await c.query({ text: "select $1::text, $2::int[]", values: ["ä'", [1, 2]], rowMode: "array" })).rows, [["ä'", [1, 2]]]);
    await fails(c.query("select 1/0"), "22012");
    await fails(c.query("select $1::int", ["x"]), "22P02");
    same(await one(c, ""+"select 3"), 3);
    await c.end();
  },
  "named statements on two servers": async () => {
    const c = await client();
    const named = (i) => one(c, { name: "plus", text: "select $1::int + 1", values: [i] });
    const first = await pid(c);
    for (let i = 0; i < 4; i += 1) same(await named(i), i + 1);
    await elsewhere(async () => {
      for (let i = 0; i < 4; i += 1) same(await named(i), i + 1);
      if (mode === "transaction" && (await pid(c)) === first) throw new Error("the same server");
    });
    await fails(c.query({ name: "bad", text: "select nonsense" }), "42703");
    await fails(c.query({ name: "bad", text: "select nonsense" }), "42703");
    same(await named(7), 8);
    await c.end();
  },
  "one name, two clients, two texts": async () => {
    const [a, b] = [await client(), await client()];
    for (let i = 0; i < 10; i += 1) {
      same(await one(a, { name: "s", text: "select 'a' || $1", values: [i] }), `a${i}`);
      same(await one(b, { name: "s", text: "select 'b' || $1", values: [i] }), `b${i}`);
    }
    await a.end();
    await b.end();
  },
  "queued queries": async () => {
    const c = await client();
    const all = [...Array(300).keys()].map((i) => one(c, "select $1::int", [i]));
    same(await Promise.all(all), [...Array(300).keys()]);
    const mixed = await Promise.allSettled([c.query("select 1"), c.query("select 1/0"), c.query("select 2")]);
    same(mixed.map((m) => m.status), ["fulfilled", "rejected", "fulfilled"]);
    await c.end();
  },
  "blocks": async () => {
    const c = await client();
    await c.query("create table if not exists drv_pg(a int)");
    await c.query("begin");
    await c.query("insert into drv_pg values ($1)", [1]);
    await fails(c.query("select 1/0"), "22012");
    await fails(c.query("select 1"), "25P02");
    same((await c.query("commit")).command, "ROLLBACK");
    same(await one(c, "select count(*)::int from drv_pg"), 0);
    await c.end();
  },
  "cursor and stream": async () => {
    const c = await client();
    const cursor = c.query(new Cursor("select generate_series(1, $1::int) as a", [250]));
    let seen = 0;
    for (let rows = await cursor.read(100); rows.length; rows = await cursor.read(100)) seen += rows.length;
    same(seen, 250);
    await cursor.close();
    const early = c.query(new Cursor("select generate_series(1, 100000)"));
    same((await early.read(5)).length, 5);
    await early.close();
    same(await one(c, "select 6"), 6);
    seen = 0;
    for await (const row of c.query(new QueryStream("select generate_series(1, 3000) as a", [], { batchSize: 50 }))) seen += row.a;
    same(seen, 4501500);
    for await (const row of c.query(new QueryStream("select generate_series(1, 100000) as a"))) if (row.a > 10) break;
    same(await one(c, "select 7"), 7);
    await c.end();
  },
  "listen": async () => {
    const [a, b] = [await client(), await client()];
    await a.query("listen drv_pg");
    const heard = new Promise((yes) => { a.once("notification", (n) => yes(n.payload)); });
    await b.query("select pg_notify('drv_pg', 'hello')");
    same(await heard, "hello");
    await a.end();
    await b.end();
  },
  "settings are one's own": async () => {
    const a = await client({ application_name: "a", options: "-c work_mem=5MB", statement_timeout: 5000 });
    const b = await client();
    await a.query("set search_path = pg_catalog");
    for (let i = 0; i < 5; i += 1) {
      same([await one(b, "show search_path"), await one(b, "show work_mem"), await one(b, "show statement_timeout")], ['"$user", public', "4MB", "0"]);
      await elsewhere(async () => {
        same([await one(a, "show search_path"), await one(a, "show work_mem"), await one(a, "show statement_timeout"), await one(a, "show application_name")], ["pg_catalog", "5MB", "5s", "a"]);
      });
    }
    await a.end();
    await b.end();
  },
  "timeout": async () => {
    const c = await client({ statement_timeout: 200 });
    await fails(c.query("select pg_sleep(5)"), "57014");
    same(await one(c, "select 1"), 1);
    await c.end();
  },
  "its pool": async () => {
    const pool = new Pool({ connectionString: url, max: 2 });
    const all = [...Array(100).keys()].map((i) => one(pool, { name: "p", text: "select $1::int", values: [i] }));
    same(await Promise.all(all), [...Array(100).keys()]);
    await pool.end();
  },
});
