// postgres.js: pipelines by default, prepared statements by default, its transactions, cursors, LISTEN, COPY.
"use strict";
const postgres = require("postgres");
const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");
const { url, pids, same, elsewhere, run, fails } = require("./checks.js");

const connect = (more = {}) => postgres(url, { max: 1, onnotice: () => {}, ...more });

async function pid(sql) {
  const [row] = await sql`select pg_backend_pid() as pid`;
  pids.add(row.pid);
}

run("postgres.js", {
  "values and types": async () => {
    const sql = connect();
    const [row] = await sql`select ${1}::int as a, ${"ä'"}::text as b, ${[1, 2]}::int[] as c, ${sql.json({ x: 1 })}::jsonb as d`;
    same(row, { a: 1, b: "ä'", c: [1, 2], d: { x: 1 } });
    await fails(sql`select 1/0`, "22012");
    same((await sql.unsafe("select 1 as a; select 2 as a")).map((r) => r[0].a), [1, 2]);
    await sql.end();
  },
  "prepared on two servers": async () => {
    const sql = connect();
    for (let i = 0; i < 8; i += 1) {
      await elsewhere(async () => {
        await pid(sql);
        same((await sql`select ${i}::int + 1 as a`)[0].a, i + 1);
      });
    }
    await sql.end();
  },
  "not prepared": async () => {
    const sql = connect({ prepare: false });
    for (let i = 0; i < 6; i += 1) await elsewhere(async () => same((await sql`select ${i}::int as a`)[0].a, i));
    await sql.end();
  },
  "pipelines": async () => {
    const sql = connect();
    const all = [...Array(300).keys()].map((i) => sql`select ${i}::int as a`);
    same((await Promise.all(all)).map((r) => r[0].a), [...Array(300).keys()]);
    const mixed = await Promise.allSettled([sql`select 1`, sql`select 1/0`, sql`select 2`, sql`select ${"x"}::int`, sql`select 3`]);
    same(mixed.map((m) => m.status[0]), ["f", "r", "f", "r", "f"]);
    await sql.end();
  },
  "transactions and savepoints": async () => {
    const sql = connect();
    await sql`create table if not exists drv_js(a int)`;
    await sql`truncate drv_js`;
    for (let i = 0; i < 4; i += 1) {
      await elsewhere(() => sql.begin(async (t) => {
        await t`insert into drv_js values (${i})`;
        await t.savepoint(async (s) => { await s`insert into drv_js values (100)`; await s`select 1/0`; }).catch(() => {});
        await Promise.all([t`select 1`, t`select 2`]);
      }));
      await fails(sql.begin(async (t) => { await t`insert into drv_js values (200)`; await t`select 1/0`; }), "22012");
      await sql.begin((t) => [t`insert into drv_js values (${10 + i})`, t`select 1`]);
    }
    same((await sql`select array_agg(a order by a) as a from drv_js`)[0].a, [0, 1, 2, 3, 10, 11, 12, 13]);
    await sql.end();
  },
  "cursors": async () => {
    const sql = connect();
    let seen = 0;
    await sql`select generate_series(1, 1000) as a`.cursor(100, (rows) => { seen += rows.length; });
    same(seen, 1000);
    for await (const rows of sql`select generate_series(1, 10000) as a`.cursor(10)) { if (rows[0].a > 50) break; }
    same((await sql`select 3 as a`)[0].a, 3);
    seen = 0;
    await sql`select generate_series(1, 500) as a`.forEach((row) => { seen += row.a; });
    same(seen, 125250);
    await sql.end();
  },
  "copy": async () => {
    const sql = connect();
    await sql`create table if not exists drv_jsc(a int, b text)`;
    await sql`truncate drv_jsc`;
    const rows = Readable.from([...Array(2000).keys()].map((i) => `${i}\tx\n`));
    await pipeline(rows, await sql`copy drv_jsc from stdin`.writable());
    let text = "";
    for await (const piece of await sql`copy drv_jsc to stdout`.readable()) text += piece;
    same(text.split("\n").length, 2001);
    await sql.end();
  },
  "listen": async () => {
    const sql = connect();
    let yes;
    const heard = new Promise((y) => { yes = y; });
    await sql.listen("drv_js", yes);
    await sql.notify("drv_js", "hello");
    same(await heard, "hello");
    await sql.end({ timeout: 2 });
  },
  "cancel": async () => {
    const sql = connect();
    const query = sql`select pg_sleep(10)`.execute();
    setTimeout(() => query.cancel(), 300);
    await fails(query, "57014");
    same((await sql`select 4 as a`)[0].a, 4);
    await sql.end();
  },
  "settings are one's own": async () => {
    const [a, b] = [connect({ connection: { work_mem: "5MB", application_name: "a" } }), connect()];
    await a`set search_path = pg_catalog`;
    for (let i = 0; i < 4; i += 1) {
      same((await b`select current_setting('work_mem') as w, current_setting('search_path') as s`)[0], { w: "4MB", s: '"$user", public' });
      await elsewhere(async () => same((await a`select current_setting('work_mem') as w, current_setting('search_path') as s`)[0], { w: "5MB", s: "pg_catalog" }));
    }
    await a.end();
    await b.end();
  },
  "reserved": async () => {
    const sql = connect({ max: 2 });
    const mine = await sql.reserve();
    await mine`select set_config('my.x', '1', false)`;
    for (let i = 0; i < 4; i += 1) await elsewhere(async () => same((await mine`show my.x`)[0]["my.x"], "1"));
    mine.release();
    await sql.end();
  },
});
