// The peer written by hand: node:http and postgres.js, one transaction per request with the caller's role and claims.
import { createHmac, timingSafeEqual } from "node:crypto";
import http from "node:http";
import postgres from "postgres";

const { PORT, JWT_SECRET, DATABASE_URL, SOCKET } = process.env;
const sql = postgres(DATABASE_URL, { max: 10, ...(SOCKET ? { path: SOCKET } : {}) });

function verify(header) {
  const [head, payload, signature] = (header ?? "").slice(7).split(".");
  const expected = createHmac("sha256", JWT_SECRET).update(`${head}.${payload}`).digest();
  const given = Buffer.from(signature ?? "", "base64url");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw new Error("bad token");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString());
  if (claims.exp * 1000 < Date.now()) throw new Error("expired");
  return claims;
}

const as = (claims, work) =>
  sql.begin(async (tx) => {
    await tx`select set_config('role', ${claims.role}, true),
                    set_config('request.jwt.claims', ${JSON.stringify(claims)}, true)`;
    return work(tx);
  });

const body = async (request) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
};

const routes = {
  note: (tx, url) => tx`select id, owner, title, body, created_at from bench_notes where id = ${url.searchParams.get("id")}`,
  rows: (tx) => tx`select * from bench_rows`,
  orders: (tx) => tx`
    select o.id, o.total, o.placed_at, json_build_object('name', c.name, 'country', c.country) as customer
    from bench_orders o join bench_customers c on c.id = o.customer_id
    where o.status = 'open' and o.total > 100 order by o.placed_at desc limit 20`,
  event: (tx, _url, one) => tx`insert into bench_events (kind, payload) values (${one.kind}, ${one.payload})`,
  events: (tx, _url, many) => tx`insert into bench_events ${tx(many.map((one) => ({ ...one, payload: tx.json(one.payload) })))}`,
  add: (tx, _url, one) => tx`select bench_add(${one.a}, ${one.b})`,
};

http
  .createServer(async (request, response) => {
    try {
      const claims = verify(request.headers.authorization);
      const url = new URL(request.url, "http://localhost");
      const given = request.method === "POST" ? await body(request) : null;
      const rows = await as(claims, (tx) => routes[url.pathname.slice(1)](tx, url, given));
      const text = JSON.stringify(rows);
      response.writeHead(request.method === "POST" ? 201 : 200, {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text),
      });
      response.end(text);
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  })
  .listen(Number(PORT), "127.0.0.1", () => console.log("ready"));
